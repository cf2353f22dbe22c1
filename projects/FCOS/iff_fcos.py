"""FCOS on video as a LazyConfig: every part is named where it stands.

python projects/FCOS/lazy_train_net.py --config-file projects/FCOS/iff_fcos.py
"""

from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data import get_detection_dataset_dicts as read_dicts
from detectron2.data import transforms as T
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler
from torch.optim import SGD

from iff_detectron2.data import (
    VIDDatasetMapper,
    VideoInferenceSampler,
    build_video_index,
    listed_frames,
)
from iff_detectron2.evaluation import VIDEvaluator
from iff_detectron2.modeling import (
    AdvancedIFF,
    Embedding,
    FlowGuidedAggregator,
    TemporalAggregation,
    TransformationResidualLoss,
    VideoFCOS,
)
from iff_detectron2.structures import TemporalWindow

TRAIN, TEST = "moving_shapes_train", "moving_shapes_val"
CHANNELS = 64
WIDTHS = {"res2": 32, "res3": 48, "res4": 64}


def _stage(narrow: int, wide: int, stride: int):
    return L(ResNet.make_stage)(
        block_class=BasicBlock,
        num_blocks=2,
        stride_per_block=[stride, 1],
        in_channels=narrow,
        out_channels=wide,
        norm="BN",
    )


def _aggregator(finds_flow: bool):
    flow = L(AdvancedIFF)(
        in_channels=CHANNELS,
        channels=64,
        pair_channels=32,
        max_displacement=4,
        correlation_stride=1,
    )
    return L(FlowGuidedAggregator)(
        flow_estimator=flow if finds_flow else None,
        embedding=L(Embedding)(in_channels=CHANNELS, hidden_channels=32, channels=64),
        alignment_loss=L(TransformationResidualLoss)(weight=10.0) if finds_flow else None,
    )


model = L(VideoFCOS)(
    backbone=L(FPN)(
        bottom_up=L(ResNet)(
            stem=L(BasicStem)(in_channels=3, out_channels=32, norm="BN"),
            stages=[_stage(32, 32, 1), _stage(32, 48, 2), _stage(48, 64, 2)],
            out_features=["res3", "res4"],
        ),
        in_features=["res3", "res4"],
        out_channels=CHANNELS,
    ),
    head=L(FCOSHead)(
        input_shape=[ShapeSpec(channels=CHANNELS)] * 2,
        num_classes="${..num_classes}",
        conv_dims=[CHANNELS, CHANNELS],
        norm="GN",
    ),
    head_in_features=["p3", "p4"],
    num_classes=8,
    test_score_thresh=0.02,
    test_nms_thresh=0.6,
    test_topk_candidates=200,
    max_detections_per_image=50,
    pixel_mean=[103.530, 116.280, 123.675],
    pixel_std=[57.375, 57.12, 58.395],
    # The flow is found on p3, resized and carried to p4.
    temporal=L(TemporalAggregation)(
        aggregators=L("builtins.dict")(p3=_aggregator(True), p4=_aggregator(False)),
        flow_level="p3",
        window=L(TemporalWindow)(num_refs=6, stride=1, causal=False),
    ),
)

_resize = L(T.ResizeShortestEdge)(short_edge_length=112, max_size=160)
dataloader = {
    "train": L(build_detection_train_loader)(
        dataset=L(read_dicts)(names=TRAIN),
        mapper=L(VIDDatasetMapper)(
            is_train=True,
            augmentations=[_resize, L(T.RandomFlip)()],
            image_format="BGR",
            frame_index=L(build_video_index)(dataset_names=[TRAIN]),
            num_refs=1,
        ),
        total_batch_size=4,
        num_workers=1,
    ),
    "test": L(build_detection_test_loader)(
        dataset=L(read_dicts)(names=TEST, filter_empty=False),
        mapper=L(VIDDatasetMapper)(
            is_train=False,
            augmentations=[_resize],
            image_format="BGR",
            frame_index=L(build_video_index)(dataset_names=[TEST]),
            window="${model.temporal.window}",
            streaming=True,
            listed_frames=L(listed_frames)(
                dataset_dicts=L(read_dicts)(names=TEST, filter_empty=False)
            ),
        ),
        sampler=L(VideoInferenceSampler)(dataset_dicts="${..dataset}"),
        num_workers=1,
    ),
    "evaluator": L(VIDEvaluator)(dataset_name=TEST, output_dir="${train.output_dir}/inference"),
}
optimizer = L(SGD)(
    params=L(get_default_optimizer_params)(),  # the script adds the model
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_factor=0.1,
    warmup_length=0.15,
)
train = {
    "output_dir": "./output/projects/FCOS",
    "init_checkpoint": "",
    "device": "cpu",
    "max_iter": 300,
    "clip_gradients": 1.0,
    "checkpointer": {"period": 100},
    "seed": 1,
}
