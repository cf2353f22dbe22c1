"""Dilated ResNet with the reduction layer of R-FCN (Sec. 3.4, network backbone)."""

from __future__ import annotations

from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ReducedResNet(ResNet):
    """A ResNet whose last stage feeds one more 3x3 convolution, `reduction`.

    The names of the ResNet's weights are Detectron2's, so its ImageNet weights load as they are.
    """

    def __init__(self, stem, stages, *, channels: int, dilation: int, freeze_at: int = 0) -> None:
        super().__init__(stem, stages, out_features=["res5"], freeze_at=freeze_at)
        in_channels = self._out_feature_channels["res5"]
        self.reduction = Conv2d(
            in_channels, channels, 3, padding=dilation, dilation=dilation, activation=F.relu
        )
        nn.init.normal_(self.reduction.weight, std=0.01)
        nn.init.zeros_(self.reduction.bias)
        self._out_features = ["reduction"]
        self._out_feature_channels["reduction"] = channels
        self._out_feature_strides["reduction"] = self._out_feature_strides["res5"]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps images [N, 3, H, W] to {"reduction": [N, C, ceil(H / stride), ceil(W / stride)]}."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return {"reduction": self.reduction(x)}


@BACKBONE_REGISTRY.register()
def build_dilated_resnet_backbone(cfg, input_shape: ShapeSpec) -> ReducedResNet:
    """Builds a bottleneck ResNet of which the stages beyond OUTPUT_STRIDE are dilated.

    Depth, widths, normalisation and frozen stages are those of MODEL.RESNETS and
    MODEL.BACKBONE.FREEZE_AT; the rest is under MODEL.DILATED_RESNET.

    Raises:
        ValueError: for a depth or an output stride that cannot be built.
    """
    num_blocks = list(cfg.MODEL.DILATED_RESNET.NUM_BLOCKS)
    if not num_blocks:
        depth = cfg.MODEL.RESNETS.DEPTH
        if depth not in NUM_BLOCKS:
            raise ValueError(f"MODEL.RESNETS.DEPTH must be one of {[*NUM_BLOCKS]}, got {depth}")
        num_blocks = list(NUM_BLOCKS[depth])
    if len(num_blocks) != 4 or min(num_blocks) < 1:
        raise ValueError(
            f"MODEL.DILATED_RESNET.NUM_BLOCKS needs 4 positive numbers, got {num_blocks}"
        )
    output_stride = cfg.MODEL.DILATED_RESNET.OUTPUT_STRIDE
    if output_stride not in (4, 8, 16, 32):
        raise ValueError(
            f"MODEL.DILATED_RESNET.OUTPUT_STRIDE must be 4, 8, 16 or 32, got {output_stride}"
        )

    resnets = cfg.MODEL.RESNETS
    stem = BasicStem(
        in_channels=input_shape.channels, out_channels=resnets.STEM_OUT_CHANNELS, norm=resnets.NORM
    )
    stages = []
    stride, dilation = stem.stride, 1
    in_channels, out_channels = resnets.STEM_OUT_CHANNELS, resnets.RES2_OUT_CHANNELS
    bottleneck_channels = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP
    for stage, blocks in enumerate(num_blocks):
        first_stride = 1 if stage == 0 else 2
        if stride * first_stride > output_stride:
            first_stride, dilation = 1, dilation * 2
        stride *= first_stride
        stages.append(
            ResNet.make_stage(
                BottleneckBlock,
                blocks,
                stride_per_block=[first_stride] + [1] * (blocks - 1),
                in_channels=in_channels,
                out_channels=out_channels,
                bottleneck_channels=bottleneck_channels,
                num_groups=resnets.NUM_GROUPS,
                stride_in_1x1=resnets.STRIDE_IN_1X1,
                dilation=dilation,
                norm=resnets.NORM,
            )
        )
        in_channels = out_channels
        out_channels *= 2
        bottleneck_channels *= 2
    return ReducedResNet(
        stem,
        stages,
        channels=cfg.MODEL.DILATED_RESNET.REDUCTION_CHANNELS,
        dilation=cfg.MODEL.DILATED_RESNET.REDUCTION_DILATION,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
