"""Deformable convolution (DCN v1): each tap of the kernel reads where an offset says."""

from __future__ import annotations

from typing import TypeAlias, cast

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from .pixels import accumulation_type

Pair: TypeAlias = tuple[int, int]


def deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """Convolve with taps that are moved, in float32 whatever smaller type x has.

    Torchvision has no kernels for the smaller types on a CPU, nor a cast under autocast there.

    Args:
        x: features [N, C, H, W].
        offset: [N, 2 * groups * taps, H', W'] in cells of x, see `DeformConv2d`.
        weight: [C', C / groups, kernel height, kernel width].
        bias: [C'].
        stride, padding, dilation: of rows and columns.

    Returns:
        [N, C', H', W'] in the type of x.
    """
    kind = accumulation_type(x.dtype)
    parts = (x.to(kind), offset.to(kind), weight.to(kind), None if bias is None else bias.to(kind))
    return deform_conv2d(*parts, stride, padding, dilation).to(x.dtype)


class DeformConv2d(nn.Conv2d):
    """A convolution whose taps are moved by offsets that are given; its weights have their names.

    With offsets of zero it is the plain convolution, so it starts from that one's weights.
    """

    def __init__(self, *args, norm: nn.Module | None = None, **kwargs) -> None:
        """
        Args:
            args, kwargs: those of `torch.nn.Conv2d`; padding in numbers, of zeros.
            norm: applied to the result.
        """
        super().__init__(*args, **kwargs)
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            raise ValueError(
                f"DeformConv2d pads by a number of zeros, got {self.padding!r}, {self.padding_mode}"
            )
        self.norm = norm

    def offset_channels(self, groups: int = 1) -> int:
        """Channels of the offsets where each of `groups` groups of input channels has its own."""
        return 2 * groups * self.kernel_size[0] * self.kernel_size[1]

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
        """Convolves.

        Args:
            x: features [N, C, H, W].
            offset: [N, offset_channels, H', W'] in cells of x: for each group and tap, rows of the
                kernel first, dy and then dx.

        Returns:
            [N, out_channels, H', W']; taps outside of the map read zero, bilinear in between.
        """
        x = deform_conv(
            x,
            offset,
            self.weight,
            self.bias,
            stride=cast(Pair, self.stride),
            padding=cast(Pair, self.padding),
            dilation=cast(Pair, self.dilation),
        )
        return x if self.norm is None else self.norm(x)
