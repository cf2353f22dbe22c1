"""Several feature maps: a flow of their own or one carried to all, the gate, a frozen detector."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample, window_sample

from iff_detectron2 import add_iff_config
from iff_detectron2.layers import resize_flow


def pyramid_cfg(**iff):
    """Return a Faster R-CNN on a small feature pyramid."""
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "VideoGeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.MODEL.IFF.IN_FEATURES = ["p3", "p4", "p5"]
    cfg.MODEL.IFF.FLOW.CHANNELS = cfg.MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS = 16
    cfg.MODEL.IFF.EMBEDDING.CHANNELS = 16
    cfg.TEST.VIDEO.NUM_REFS = 2
    cfg.TEST.VIDEO.STREAMING = False
    for key, value in iff.items():
        cfg.MODEL.IFF.merge_from_list([key.replace("__", "."), value])
    return cfg


def fusion_of(model, height=97, width=131):
    video = make_video(3, height, width)
    with torch.no_grad():
        model([window_sample(video, 1, (-1, 1))])
    return model.temporal.last[0].levels


def test_each_map_finds_its_own_flow_unless_one_is_named():
    own = build(pyramid_cfg())
    assert all(a.estimates_flow for a in own.temporal.aggregators.values())
    carried = build(pyramid_cfg(FLOW__LEVEL="p4"))
    finds = {name: a.estimates_flow for name, a in carried.temporal.aggregators.items()}
    assert finds == {"p3": False, "p4": True, "p5": False}


@pytest.mark.parametrize("source", ["p3", "p4", "p5"])
def test_a_carried_flow_is_that_of_its_map_resized(source):
    model = build(pyramid_cfg(FLOW__LEVEL=source))
    randomise_flow(model, 0.1)
    levels = fusion_of(model)
    flow = levels[source].flow
    assert flow.abs().max() > 0.1
    strides = {"p3": 8, "p4": 16, "p5": 32}
    for name, stride in strides.items():
        size = levels[name].feature.shape[-2:]
        expected = resize_flow(flow, tuple(size), strides[source] / stride)
        torch.testing.assert_close(levels[name].flow, expected)
    assert levels["p2"].flow is None


def test_a_pyramid_with_carried_flow_trains_every_temporal_parameter():
    model = build(pyramid_cfg(FLOW__LEVEL="p4", GATE=True)).train()
    randomise_flow(model, 0.1)
    for gate in model.temporal.gates.values():
        gate.data.fill_(0.5)
    with EventStorage():
        losses = model([training_sample(make_video(3), 1, (-1, 1), [(10, 10, 60, 50)], [0])])
    assert "loss_trl" in losses
    sum(losses.values()).backward()
    named = model.temporal.named_parameters()
    assert not [name for name, p in named if p.grad is None]


@pytest.mark.parametrize("level", ["p2", "p9"])
def test_a_level_that_is_not_aggregated_names_the_key(level):
    with pytest.raises(ValueError, match=rf"MODEL\.IFF\.FLOW\.LEVEL is '{level}'"):
        build(pyramid_cfg(FLOW__LEVEL=level))


def test_an_aggregator_without_flow_has_none_to_carry():
    with pytest.raises(ValueError, match="AverageAggregator predicts no flow"):
        build(pyramid_cfg(FLOW__LEVEL="p4", AGGREGATOR="AverageAggregator"))


def test_a_closed_gate_leaves_the_plain_detector():
    plain = build(tiny_cfg("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"))
    gated = build(tiny_cfg("MODEL.IFF.GATE", True, "TEST.VIDEO.STREAMING", False))
    gated.load_state_dict(plain.state_dict(), strict=False)
    randomise_flow(gated)
    sample = window_sample(make_video(3), 1, (-1, 1))
    with torch.no_grad():
        expected, got = plain([sample])[0]["instances"], gated([sample])[0]["instances"]
        (fusion,) = gated.temporal.last
        gated.temporal.gates["reduction"].fill_(1.0)
        gated([sample])
    key = fusion.frames.gather([0])["reduction"]["feature"]
    assert torch.equal(fusion.levels["reduction"].feature, key)
    assert not torch.allclose(gated.temporal.last[0].levels["reduction"].feature, key)
    # The backbone sees one frame there and three here, which rounds differently.
    torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1e-3)


def test_the_gate_learns_from_the_first_step():
    model = build(tiny_cfg("MODEL.IFF.GATE", True)).train()
    randomise_flow(model)
    with EventStorage():
        losses = model([training_sample(make_video(3), 1, (-1, 1), [(10, 10, 60, 50)], [0])])
    sum(losses.values()).backward()
    assert model.temporal.gates["reduction"].grad.abs() > 0


def test_a_frozen_detector_keeps_weights_and_statistics():
    model = build(tiny_cfg("MODEL.IFF.FREEZE_DETECTOR", True)).train()
    randomise_flow(model)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with EventStorage():
        losses = model([training_sample(make_video(3), 1, (-1, 1), [(10, 10, 60, 50)], [0])])
    sum(losses.values()).backward()
    optimizer.step()
    changed = {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed
    assert all(name.startswith("temporal.") for name in changed)
    assert any(name.endswith("running_mean") for name in before)  # statistics that could move
