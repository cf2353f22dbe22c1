import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from toy_models import build, tiny_cfg

from iff_detectron2.layers import ps_roi_pool
from iff_detectron2.modeling import RFCNOutputLayers, RFCNROIHeads, RFCNRPNHead, rfcn

SIZE = (40, 48)


def make_heads(ohem_topk=3, num_classes=2, bins=3):
    torch.manual_seed(0)
    predictor = RFCNOutputLayers(
        ShapeSpec(channels=4, stride=8),
        pooler_resolution=bins,
        spatial_scale=1 / 8,
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=num_classes,
        cls_agnostic_bbox_reg=True,
        smooth_l1_beta=1.0,
    )
    return RFCNROIHeads(
        in_feature="reduction",
        box_predictor=predictor,
        ohem_topk=ohem_topk,
        num_classes=num_classes,
        batch_size_per_image=0,
        positive_fraction=0.0,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
    )


def instances(boxes, **fields):
    result = Instances(SIZE)
    result.set("proposal_boxes" if "objectness_logits" in fields else "gt_boxes", Boxes(boxes))
    for name, value in fields.items():
        result.set(name, value)
    return result


def proposals(count=6):
    torch.manual_seed(1)
    corner = torch.rand(count, 2) * 20
    boxes = torch.cat((corner, corner + 4 + torch.rand(count, 2) * 15), 1)
    return instances(boxes, objectness_logits=torch.zeros(count))


def targets(boxes=((2.0, 3.0, 20.0, 22.0),), classes=(1,)):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return instances(boxes, gt_classes=torch.tensor(classes, dtype=torch.int64))


def images(count=1):
    return ImageList(torch.zeros(count, 3, *SIZE), [SIZE] * count)


def test_rpn_head_reads_the_first_half_and_has_two_layers_only():
    head = RFCNRPNHead(in_channels=8, num_anchors=9)
    assert {n: tuple(p.shape) for n, p in head.named_parameters() if p.dim() > 1} == {
        "objectness_logits.weight": (9, 4, 1, 1),
        "anchor_deltas.weight": (36, 4, 1, 1),
    }
    x = torch.randn(1, 8, 5, 6, requires_grad=True)
    (logits,), (deltas,) = head([x])
    (logits.sum() + deltas.sum()).backward()
    assert x.grad[:, :4].abs().min() > 0
    assert not x.grad[:, 4:].any()


def test_heads_read_the_second_half():
    heads = make_heads().train()
    x = torch.randn(1, 8, 5, 6, requires_grad=True)
    with EventStorage():
        _, losses = heads(images(), {"reduction": x}, [proposals()], [targets()])
    sum(losses.values()).backward()
    assert x.grad[:, 4:].any()
    assert not x.grad[:, :4].any()


def test_layers_of_the_paper():
    model = build(tiny_cfg("MODEL.RFCN.POOLER_RESOLUTION", 7, "MODEL.ROI_HEADS.NUM_CLASSES", 30))
    predictor = model.roi_heads.box_predictor
    assert tuple(predictor.cls_score.weight.shape) == (49 * 31, 16, 1, 1)
    assert tuple(predictor.bbox_pred.weight.shape) == (49 * 4, 16, 1, 1)
    assert predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.proposal_generator.rpn_head.objectness_logits.out_channels == 9


def test_new_layers_start_small():
    """N(0, 0.01) and no bias, in the heads and in the RPN."""
    torch.manual_seed(0)
    shape = ShapeSpec(channels=512, stride=16)
    cfg = tiny_cfg("MODEL.RFCN.POOLER_RESOLUTION", 7, "MODEL.ROI_HEADS.NUM_CLASSES", 30)
    modules = (RFCNOutputLayers(cfg, shape), RFCNRPNHead(in_channels=1024, num_anchors=9))
    layers = [m for module in modules for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(layers) == 4
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(layer.weight.mean().item()) < 1e-3
        assert not layer.bias.any()


def test_box_targets_are_in_standard_deviations():
    """A box of 20 by 10 whose object lies 2 to the right, 1 down and is as wide, half as high."""
    predictor = build(tiny_cfg()).roi_heads.box_predictor
    region, target = torch.tensor([[10.0, 10, 30, 20]]), torch.tensor([[12.0, 13.5, 32, 18.5]])
    expected = [2 / 20 / 0.1, 1 / 10 / 0.1, 0.0, math.log(0.5) / 0.2]
    got = predictor.box2box_transform.get_deltas(region, target)
    assert got.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_regions_share_equally_whatever_the_image():
    """Losses are means over images: one with few regions counts as much as one with many."""
    heads = make_heads(ohem_topk=0).train()
    x = torch.randn(2, 8, 5, 6)
    sets, labels = [proposals(6), proposals(2)], [targets(), targets()]
    with EventStorage():
        _, together = heads(images(2), {"reduction": x}, sets, labels)
        alone = [
            heads(images(), {"reduction": x[i : i + 1]}, sets[i : i + 1], labels[i : i + 1])[1]
            for i in range(2)
        ]
    for name, loss in together.items():
        mean = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(loss, mean)
        assert not torch.allclose(alone[0][name], alone[1][name])


def test_scores_are_the_mean_vote_of_the_bins():
    """On maps that are constant in space each bin reads its own channel, whatever the region."""
    predictor = make_heads(bins=2).box_predictor
    x = torch.randn(1, 4, 1, 1).expand(1, 4, 5, 6)
    scores, deltas = predictor(x, [Boxes(torch.tensor([[0.0, 0.0, 47.0, 39.0]]))])
    for out, conv, channels in ((scores, predictor.cls_score, 3), (deltas, predictor.bbox_pred, 4)):
        votes = (conv.weight[:, :, 0, 0] @ x[0, :, 0, 0] + conv.bias).view(channels, 4)
        torch.testing.assert_close(out[0], votes.mean(1))


def test_bins_are_found_once_for_both_layers(monkeypatch):
    pooled = []

    def counted(*args):
        pooled.append(args[0].shape)
        return ps_roi_pool(*args)

    monkeypatch.setattr(rfcn, "ps_roi_pool", counted)
    layers = build(tiny_cfg()).roi_heads.box_predictor
    x = torch.randn(1, layers.cls_score.in_channels, 6, 7)
    boxes = Boxes(torch.tensor([[0.0, 0, 30, 20], [9, 9, 40, 41]]))
    with torch.no_grad():
        scores, deltas = layers(x, [boxes])
    bins, classes = layers.pooler_resolution**2, layers.num_classes + 1
    assert pooled == [(1, bins * (classes + 4), 6, 7)]
    rois = torch.cat((torch.zeros(2, 1), boxes.tensor), 1)
    for got, layer in ((scores, layers.cls_score), (deltas, layers.bbox_pred)):
        alone = ps_roi_pool(layer(x), rois, layers.pooler_resolution, layers.spatial_scale)
        torch.testing.assert_close(got, alone.mean((2, 3)), rtol=0, atol=1e-6)


def test_no_random_sampling_before_mining():
    heads = make_heads().train()
    with EventStorage():
        (labelled,) = heads.label_and_sample_proposals([proposals(6)], [targets()])
    assert len(labelled) == 7  # all proposals and the ground truth
    assert (labelled.gt_classes == 1).sum() >= 1
    assert set(labelled.gt_classes.tolist()) <= {1, 2}


def test_images_without_objects_are_all_background():
    heads = make_heads().train()
    with EventStorage():
        x = torch.randn(2, 8, 5, 6)
        kept, losses = heads(
            images(2), {"reduction": x}, [proposals(), proposals()], [targets((), ()), targets()]
        )
    assert kept[0].gt_classes.tolist() == [2, 2, 2]
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_hard_examples_by_hand():
    heads = make_heads(ohem_topk=2).train()
    labelled = proposals(4)
    labelled.gt_classes = torch.tensor([2, 2, 2, 1])
    labelled.gt_boxes = labelled.proposal_boxes.clone()  # deltas of 0 are right
    # Loss of each: -log softmax of the true class, and |delta| - 0.5 a coordinate for the object.
    scores = torch.tensor([[0.0, 0, 5], [5.0, 0, 0], [0.0, 0, 0], [0.0, 5, 0]])
    deltas = torch.zeros(4, 4)
    (kept_scores, _), (kept,) = heads.mine_hard_examples((scores, deltas), [labelled])
    assert kept.gt_classes.tolist() == [2, 2]
    torch.testing.assert_close(kept_scores, scores[[1, 2]])
    deltas[3] = 3.0  # 4 x 2.5 = 10, now the hardest
    deltas[0] = 9.0  # background has no box loss
    (kept_scores, _), (kept,) = heads.mine_hard_examples((scores, deltas), [labelled])
    assert kept.gt_classes.tolist() == [1, 2]
    torch.testing.assert_close(kept_scores, scores[[3, 1]])


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_regions_are_ranked_by_the_loss_that_is_trained(kind, sigmoid):
    """The loss of a region alone, by Detectron2's own code, whatever the kind and the weights."""
    heads = make_heads(ohem_topk=0).train()
    predictor = heads.box_predictor
    predictor.box_reg_loss_type, predictor.use_sigmoid_ce = kind, sigmoid
    predictor.loss_weight = {"loss_cls": 0.5, "loss_box_reg": 3.0}
    torch.manual_seed(0)
    with EventStorage():
        (labelled,) = heads.label_and_sample_proposals([proposals(6)], [targets()])
        scores, deltas = torch.randn(len(labelled), 3), torch.randn(len(labelled), 4)
        alone = [
            sum(predictor.losses((scores[i : i + 1], deltas[i : i + 1]), [labelled[[i]]]).values())
            for i in range(len(labelled))
        ]
    assert (labelled.gt_classes < 2).any()
    got = heads._region_losses(scores, deltas, labelled)
    torch.testing.assert_close(got, torch.stack(alone))


def test_mining_normalises_by_what_it_keeps():
    heads = make_heads(ohem_topk=2).train()
    x = torch.randn(1, 8, 5, 6)
    with EventStorage():
        _, losses = heads(images(), {"reduction": x}, [proposals(6)], [targets()])
        heads.ohem_topk = 0
        everything, all_losses = heads(images(), {"reduction": x}, [proposals(6)], [targets()])
    scores, _ = heads.box_predictor(x[:, 4:], [everything[0].proposal_boxes])
    each = torch.nn.functional.cross_entropy(scores, everything[0].gt_classes, reduction="none")
    assert all_losses["loss_cls"].item() == pytest.approx(each.mean().item(), rel=1e-5)
    assert losses["loss_cls"].item() > all_losses["loss_cls"].item()


def test_class_specific_regression_is_refused():
    with pytest.raises(ValueError, match="CLS_AGNOSTIC_BBOX_REG"):
        build(tiny_cfg("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False))


def test_unknown_feature_is_refused():
    with pytest.raises(ValueError, match=r"ROI_HEADS\.IN_FEATURES"):
        build(tiny_cfg("MODEL.ROI_HEADS.IN_FEATURES", "['res9']"))
