"""Dilated ResNet with the reduction layer of R-FCN (Sec. 3.4, network backbone)."""

from __future__ import annotations

from typing import Any

from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import DeformConv2d

NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class DeformableBottleneckBlock(BottleneckBlock):
    """A bottleneck block whose 3x3 convolution is deformable (DCN v1, without modulation).

    The names are those of Detectron2's `DeformBottleneckBlock`, which needs a compiled extension.
    The offsets start at zero, so the block starts as the plain one of the same weights.
    """

    def __init__(self, *args: Any, deform_num_groups: int = 1, **kwargs: Any) -> None:
        """
        Args:
            args, kwargs: those of `BottleneckBlock`.
            deform_num_groups: groups of channels with offsets of their own.
        """
        super().__init__(*args, **kwargs)
        plain: Conv2d = self.get_submodule("conv2")  # type: ignore[assignment]
        if deform_num_groups < 1 or plain.in_channels % deform_num_groups:
            raise ValueError(
                f"MODEL.RESNETS.DEFORM_NUM_GROUPS must divide {plain.in_channels} channels, got "
                f"{deform_num_groups}"
            )
        shape = {"stride": plain.stride, "padding": plain.padding, "dilation": plain.dilation}
        self.conv2 = DeformConv2d(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,
            **shape,
            groups=plain.groups,
            bias=False,
            norm=plain.norm,
        )
        self.conv2.weight = plain.weight
        self.conv2_offset = nn.Conv2d(
            plain.in_channels,
            self.conv2.offset_channels(deform_num_groups),
            plain.kernel_size,
            **shape,
        )
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.constant_(self.conv2_offset.bias, 0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / stride, W / stride]."""
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out, self.conv2_offset(out)))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


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
        """Map images [N, 3, H, W] to {"reduction": [N, C, ceil(H / stride), ceil(W / stride)]}."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return {"reduction": self.reduction(x)}


def _make_stage(
    num_blocks: int, num_deformable: int, deform_num_groups: int, *, in_channels, stride, **kwargs
) -> list[nn.Module]:
    """Bottleneck blocks of one stage, of which the last `num_deformable` are deformable."""
    blocks: list[nn.Module] = []
    for index in range(num_blocks):
        shape = {"in_channels": in_channels, "stride": stride, **kwargs}
        if index < num_blocks - num_deformable:
            blocks.append(BottleneckBlock(**shape))
        else:
            blocks.append(DeformableBottleneckBlock(deform_num_groups=deform_num_groups, **shape))
        in_channels, stride = kwargs["out_channels"], 1
    return blocks


@BACKBONE_REGISTRY.register()
def build_dilated_resnet_backbone(cfg, input_shape: ShapeSpec) -> ReducedResNet:
    """Build a bottleneck ResNet of which the stages beyond OUTPUT_STRIDE are dilated.

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

    deform_blocks = list(cfg.MODEL.DILATED_RESNET.DEFORM_BLOCKS)
    if len(deform_blocks) != 4 or any(
        not 0 <= d <= n for d, n in zip(deform_blocks, num_blocks, strict=True)
    ):
        raise ValueError(
            "MODEL.DILATED_RESNET.DEFORM_BLOCKS needs 4 numbers, none beyond the blocks of its "
            f"stage ({num_blocks}), got {deform_blocks}"
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
            _make_stage(
                blocks,
                deform_blocks[stage],
                resnets.DEFORM_NUM_GROUPS,
                stride=first_stride,
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
