"""Each row of Tables 1, 2 and 4, read from the modules that its config builds."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.anchor_generator import build_anchor_generator
from torch import nn
from toy_models import CONFIGS

from iff_detectron2.data import VIDDatasetMapper
from iff_detectron2.engine import VideoTrainer, load_config
from iff_detectron2.layers import DeformConv2d
from iff_detectron2.modeling import (
    AdvancedIFF,
    BasicIFF,
    FlowGuidedAggregator,
    FlowNetS,
    TransformationResidualLoss,
)


@dataclass(frozen=True)
class Row:
    flow: type | None
    trl: bool = False
    frozen_flow: bool = False
    deformable: tuple[str, ...] = ()
    train_refs: int = 2
    post: str = ""


RES5 = ("res5.0", "res5.1", "res5.2")
RES4 = ("res4.20", "res4.21", "res4.22")
ROWS = {
    "rfcn_R_101": Row(None),
    "optflow_A_R_101": Row(FlowNetS, frozen_flow=True),
    "optflow_B_R_101": Row(FlowNetS),
    "iff_net_A_R_101": Row(BasicIFF),
    "iff_net_B_R_101": Row(BasicIFF, trl=True),
    "iff_net_C_R_101": Row(AdvancedIFF, trl=True),
    "iff_net_D_R_101": Row(AdvancedIFF, trl=True, post="seq_nms"),
    "iff_net_E_R_101": Row(AdvancedIFF, trl=True, post="seq_nms_plus"),
    "iff_net_F_R_101_3dcn": Row(AdvancedIFF, trl=True, deformable=RES5, post="seq_nms_plus"),
    "iff_net_G_R_101_3dcn": Row(
        AdvancedIFF, trl=True, deformable=RES5, train_refs=4, post="seq_nms_plus"
    ),
    "iff_net_H_R_101_6dcn": Row(
        AdvancedIFF, trl=True, deformable=RES4 + RES5, train_refs=4, post="seq_nms_plus"
    ),
}
PAPER_MAP = {
    "rfcn_R_101": "74.1 mAP (slow 83.6, medium 71.6, fast 51.2)",
    "optflow_A_R_101": "74.4 mAP (slow 84.9, medium 74.0, fast 51.5)",
    "optflow_B_R_101": "75.4 mAP (slow 83.7, medium 74.8, fast 53.5)",
    "iff_net_A_R_101": "76.0 mAP (slow 85.0, medium 74.8, fast 54.7)",
    "iff_net_B_R_101": "76.4 mAP (slow 85.3, medium 75.0, fast 54.6)",
    "iff_net_C_R_101": "77.1 mAP (slow 85.0, medium 75.9, fast 57.7)",
    "iff_net_D_R_101": "78.9 mAP (slow 86.6, medium 78.1, fast 59.8)",
    "iff_net_E_R_101": "79.7 mAP (slow 87.5, medium 78.7, fast 60.6)",
    "iff_net_F_R_101_3dcn": "80.5 mAP",
    "iff_net_G_R_101_3dcn": "81.2 mAP",
    "iff_net_H_R_101_6dcn": "82.1 mAP",
}
# Kernel side, input channels, output channels.
BASIC = {"reduce": (1, 1024, 512), "embed": (3, 512, 512), "flow": (3, 1024, 2)}
ADVANCED = {
    "eb1.left1": (1, 1024, 512),
    "eb1.left2": (3, 512, 512),
    "eb1.right": (1, 1024, 512),
    "eb2.left1": (1, 512, 128),
    "eb2.left2": (3, 128, 128),
    "eb2.right": (1, 512, 128),
    "relation": (3, 121, 128),
    "fuse": (3, 128, 128),
    "flow": (3, 128, 2),
}
EMBEDDING = {"0": (1, 1024, 512), "1": (3, 512, 512), "2": (1, 512, 2048)}


def path(name):
    return CONFIGS / "ImageNetVID" / f"{name}.yaml"


@pytest.fixture(scope="module", params=ROWS)
def built(request):
    """Return a row, its config and its model, without memory for the weights."""
    cfg = load_config(str(path(request.param)), ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    return ROWS[request.param], cfg, model


def layers(module):
    return {
        name: (m.kernel_size[0], m.in_channels, m.out_channels)
        for name, m in module.named_modules()
        if isinstance(m, nn.Conv2d)
    }


def test_the_table_is_the_folder():
    files = {p.stem for p in (CONFIGS / "ImageNetVID").glob("*.yaml") if "Base" not in p.name}
    assert files == {*ROWS, "iff_net_C_R_101_vid_only"}


@pytest.mark.parametrize("name", ROWS)
def test_heads_say_the_papers_number_and_that_it_is_not_ours(name):
    text = path(name).read_text()
    head = text[: text.index("\n_BASE_")]
    assert f"--config-file configs/ImageNetVID/{name}.yaml --num-gpus 4" in head
    assert f"Paper: {PAPER_MAP[name]}. Not measured here." in head


def test_backbone(built):
    row, _, model = built
    backbone = model.backbone
    assert [len(stage) for stage in backbone.stages] == [3, 4, 23, 3]
    assert {b.conv2.dilation for b in backbone.res5} == {(2, 2)}
    assert {b.conv2.dilation for b in (*backbone.res3, *backbone.res4)} == {(1, 1)}
    assert [stage[0].conv1.stride for stage in backbone.stages] == [(1, 1), (2, 2), (2, 2), (1, 1)]
    assert {b.conv2.stride for stage in backbone.stages for b in stage} == {(1, 1)}
    assert backbone.output_shape() == {"reduction": ShapeSpec(channels=1024, stride=16)}
    assert layers(backbone)["reduction"] == (3, 2048, 1024)
    assert (backbone.reduction.dilation, backbone.reduction.padding) == ((6, 6), (6, 6))
    deformable = {
        name.removesuffix(".conv2"): m
        for name, m in backbone.named_modules()
        if isinstance(m, DeformConv2d)
    }
    assert tuple(deformable) == row.deformable
    assert {m.kernel_size for m in deformable.values()} <= {(3, 3)}


def test_what_is_frozen(built):
    row, _, model = built
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = {
        n for n, _ in model.named_parameters() if n.startswith(("backbone.stem", "backbone.res2"))
    }
    if row.frozen_flow:
        expected |= {n for n, _ in model.named_parameters() if ".flow_estimator." in n}
        assert any(".flow_estimator." in n for n in expected)
    assert frozen == expected
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms = [m for m in model.backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 1 + 33 * 3 + 4  # stem, three a block, four shortcuts
    assert not [p for m in norms for p in m.parameters()]


def test_rpn(built):
    _, cfg, model = built
    rpn = model.proposal_generator
    assert layers(rpn) == {
        "rpn_head.objectness_logits": (1, 512, 9),
        "rpn_head.anchor_deltas": (1, 512, 36),
    }
    assert rpn.pre_nms_topk == {True: 6000, False: 6000}
    assert rpn.post_nms_topk == {True: 300, False: 300}
    assert rpn.nms_thresh == 0.7
    assert rpn.anchor_boundary_thresh == 0
    assert rpn.box2box_transform.weights == (10.0, 10.0, 2.5, 2.5)  # 1 / 0.1, 1 / 0.4
    assert (rpn.box_reg_loss_type, rpn.smooth_l1_beta) == ("smooth_l1", pytest.approx(1 / 9))
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert rpn.anchor_matcher.thresholds[1:-1] == [0.3, 0.7]
    assert rpn.anchor_matcher.labels == [0, -1, 1]
    assert rpn.anchor_matcher.allow_low_quality_matches
    (anchors,) = build_anchor_generator(cfg, [ShapeSpec(stride=16)]).cell_anchors
    width, height = (anchors[:, 2:] - anchors[:, :2]).T
    found = {
        (round((w * h) ** 0.5), round(h / w, 3))
        for w, h in zip(width.tolist(), height.tolist(), strict=True)
    }
    assert found == {(side, ratio) for side in (128, 256, 512) for ratio in (0.5, 1.0, 2.0)}


def test_rfcn_head(built):
    row, _, model = built
    heads = model.roi_heads
    predictor = heads.box_predictor
    assert layers(heads) == {
        "box_predictor.cls_score": (1, 512, 49 * 31),
        "box_predictor.bbox_pred": (1, 512, 49 * 4),
    }
    assert (predictor.pooler_resolution, predictor.spatial_scale) == (7, 1 / 16)
    assert predictor.box2box_transform.weights == (10.0, 10.0, 5.0, 5.0)  # 1 / 0.1, 1 / 0.2
    assert (predictor.box_reg_loss_type, predictor.smooth_l1_beta) == ("smooth_l1", 1.0)
    assert heads.ohem_topk == 128
    assert heads.proposal_append_gt
    assert heads.proposal_matcher.thresholds[1:-1] == [0.5]
    assert heads.proposal_matcher.labels == [0, 1]
    assert predictor.test_score_thresh == 0.001
    # Seq-NMS wants every box of a frame, Seq-NMS+ what NMS leaves of them.
    everything = row.post == "seq_nms"
    assert predictor.test_nms_thresh == (1.0 if everything else 0.3)
    assert predictor.test_topk_per_image == (-1 if everything else 300)


def test_flow_and_aggregation(built):
    row, cfg, model = built
    assert row.post == cfg.TEST.VIDEO.POSTPROCESS
    if row.flow is None:
        assert not hasattr(model, "temporal")
        return
    assert list(model.temporal.aggregators) == ["reduction"]
    aggregator = model.temporal.aggregators["reduction"]
    estimator = aggregator.flow_estimator
    assert type(aggregator) is FlowGuidedAggregator
    assert type(estimator) is row.flow
    if row.flow is BasicIFF:
        assert layers(estimator) == BASIC
    elif row.flow is AdvancedIFF:
        assert layers(estimator) == ADVANCED
        assert (estimator.max_displacement, estimator.correlation_stride) == (10, 2)
    else:
        assert layers(estimator)["conv6"] == (3, 512, 1024)
        assert (estimator.stride, estimator.flip_channels) == (16, True)
    assert layers(aggregator.embedding) == EMBEDDING
    assert aggregator.fuse_key_frame
    assert aggregator.embed_before_warp
    if row.trl:
        assert type(aggregator.alignment_loss) is TransformationResidualLoss
        assert aggregator.alignment_loss.weight == 0.65
    else:
        assert aggregator.alignment_loss is None


def test_refs(built):
    row, cfg, model = built
    mapper, test_mapper = (
        VIDDatasetMapper(cfg, train, dataset_names=()) for train in (True, False)
    )
    if row.flow is None:
        assert mapper.num_refs == 0
        assert test_mapper.window.num_refs == 0
        return
    assert (mapper.num_refs, mapper.max_offset) == (row.train_refs, 10)
    offsets = tuple(o for o in range(-10, 11) if o)
    assert len(offsets) == 20
    assert tuple(model.temporal.window.offsets) == offsets
    assert tuple(test_mapper.window.offsets) == offsets


def test_training_schedule(built):
    _, cfg, model = built
    optimizer = VideoTrainer.build_optimizer(cfg, model)
    groups = [
        (g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups if g["params"]
    ]
    assert set(groups) == {(0.001, 0.9, 0.0005)}
    scheduler = VideoTrainer.build_lr_scheduler(cfg, optimizer)
    for step, rate in ((0, 1e-3), (71249, 1e-3), (71250, 1e-4), (119999, 1e-4)):
        scheduler.last_epoch = step
        assert scheduler.get_lr()[0] == pytest.approx(rate), step
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER) == (4, 120000)
    assert VideoTrainer.parts_of_a_step(cfg) == 4  # one process: one image at a time


@pytest.mark.parametrize("gpus", [1, 8])
def test_the_rate_follows_the_batch_by_detectron2s_rule(gpus):
    opts = ["SOLVER.REFERENCE_WORLD_SIZE", 4]
    cfg = VideoTrainer.auto_scale_workers(load_config(str(path("iff_net_C_R_101")), opts), gpus)
    solver = cfg.SOLVER
    scale = gpus / 4
    got = (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS[0])
    assert got == pytest.approx((gpus, 0.001 * scale, 120000 / scale, 71250 / scale))


def test_vid_only_differs_in_the_data_alone():
    with_det, without = (load_config(str(path(f"iff_net_C_R_101{s}"))) for s in ("", "_vid_only"))
    assert without.DATASETS.TRAIN == ("imagenet_vid_train",)
    assert with_det.DATASETS.TRAIN == ("imagenet_det_30cls_train", "imagenet_vid_train")
    without.defrost()
    without.DATASETS.TRAIN, without.OUTPUT_DIR = with_det.DATASETS.TRAIN, with_det.OUTPUT_DIR
    assert without == with_det


def test_rows_share_one_base():
    def base(file: Path) -> Path:
        (line,) = [x for x in file.read_text().splitlines() if x.startswith("_BASE_")]
        return file.parent / line.split()[1]

    for name in ROWS:
        file = path(name)
        while "Base" not in file.name:
            file = base(file)
        assert file.name == "Base-R_101.yaml"
