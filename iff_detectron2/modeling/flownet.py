"""Optical flow of images by FlowNetS, as FGFA uses it: the OptFlow rows (Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from .flow_estimator import FLOW_ESTIMATOR_REGISTRY, FlowEstimator

# The net predicts flow in units of 20 pixels of its input, which is the image at half size.
PIXELS = 20 * 2
# Stride in pixels of the image of the finest maps of its decoder.
DECODER_STRIDE = 8


def _conv(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)


def _upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)


def _relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _crop(x: Tensor, like: Tensor) -> Tensor:
    return x[..., : like.shape[-2], : like.shape[-1]]


@FLOW_ESTIMATOR_REGISTRY.register()
class FlowNetS(FlowEstimator):
    """FlowNetS (Dosovitskiy et al., 2015) on images at half size, flow in cells of the features.

    Every layer rounds sizes up, as the backbone does, so the images need no padding and the flow
    has the size of the feature map whatever that of the images.
    """

    @configurable
    def __init__(
        self,
        *,
        stride: int,
        pixel_std: Sequence[float],
        channels: int = 512,
        flip_channels: bool = False,
    ) -> None:
        """
        Args:
            stride: pixels of the image per cell of the feature map: 4, 8, 16, 32 or 64.
            pixel_std: what the model divides pixels by, [3]; undone, since FlowNet wants x / 255.
            channels: width of conv4 and conv5; the other layers follow in proportion.
            flip_channels: turn the colour channels of the model's images around.
        """
        super().__init__()
        if stride not in (4, 8, 16, 32, 64):
            raise ValueError(f"FlowNetS needs features of stride 4, 8, 16, 32 or 64, got {stride}")
        if channels < 8 or channels % 8:
            raise ValueError(f"MODEL.IFF.FLOW.CHANNELS must be a multiple of 8, got {channels}")
        self.stride = stride
        self.flip_channels = flip_channels
        self.pixel_std: Tensor
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(1, 3, 1, 1), False)
        c1, c2, c3, c4, c6 = (channels // 8, channels // 4, channels // 2, channels, 2 * channels)
        self.conv1 = _conv(6, c1, 7, 2)
        self.conv2 = _conv(c1, c2, 5, 2)
        self.conv3 = _conv(c2, c3, 5, 2)
        self.conv3_1 = _conv(c3, c3)
        self.conv4 = _conv(c3, c4, stride=2)
        self.conv4_1 = _conv(c4, c4)
        self.conv5 = _conv(c4, c4, stride=2)
        self.conv5_1 = _conv(c4, c4)
        self.conv6 = _conv(c4, c6, stride=2)
        self.conv6_1 = _conv(c6, c6)
        # Each concatenation: the encoder's map, the decoder's, and the coarser flow.
        d5, d4, d3, d2 = c4 + c4 + 2, c4 + c3 + 2, c3 + c2 + 2, c2 + c1 + 2
        for level, width in ((6, c6), (5, d5), (4, d4), (3, d3)):
            self.add_module(f"flow{level}", _conv(width, 2))
        self.flow2 = _conv(d2, 2)
        for level, width, out in ((5, c6, c4), (4, d5, c3), (3, d4, c2), (2, d3, c1)):
            self.add_module(f"deconv{level}", _upsample(width, out))
            self.add_module(f"upflow{level}", _upsample(2, 2))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                nn.init.constant_(module.bias, 0)  # type: ignore[arg-type]
        # Without weights of its own it starts from "no motion", as the IFF modules do.
        nn.init.zeros_(self.flow2.weight)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        flow = cfg.MODEL.IFF.FLOW
        formats = (cfg.INPUT.FORMAT, flow.INPUT_FORMAT)
        if not set(formats) <= {"RGB", "BGR"}:
            raise ValueError(
                f"FlowNetS needs INPUT.FORMAT and MODEL.IFF.FLOW.INPUT_FORMAT RGB or BGR, got "
                f"{formats[0]} and {formats[1]}"
            )
        return {
            "stride": input_shape.stride,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "channels": flow.CHANNELS,
            "flip_channels": formats[0] != formats[1],
        }

    def encode(self, features: Tensor, images: Tensor) -> Tensor:
        """Brings images to FlowNet's range, channel order and size.

        Args:
            features: feature maps of the frames, [N, C, H', W'].
            images: what the backbone was given: pixels less their mean, divided by pixel_std, with
                zero padding, [N, 3, H, W].

        Returns:
            Images at half size, [N, 3, ceil(H / 2), ceil(W / 2)].

        Raises:
            ValueError: if the sizes of images and features do not belong together.
        """
        expected = tuple(-(-side // self.stride) for side in images.shape[-2:])
        if tuple(features.shape[-2:]) != expected:
            raise ValueError(
                f"images {tuple(images.shape[-2:])} have features {tuple(features.shape[-2:])}, "
                f"but at stride {self.stride} the flow of FlowNetS is {expected}"
            )
        x = images * self.pixel_std.to(images.dtype) / 255
        if self.flip_channels:
            x = x.flip(1)
        return F.avg_pool2d(x, 2, ceil_mode=True)

    def forward(self, key: Tensor, refs: Tensor) -> Tensor:
        decoded = self._decode(torch.cat((key.expand_as(refs), refs), dim=1))
        window = self.stride // DECODER_STRIDE
        if window > 1:
            decoded = F.avg_pool2d(decoded, window, ceil_mode=True)
        flow = self.flow2(decoded) * (PIXELS / self.stride)
        if window < 1:
            flow = F.interpolate(flow, scale_factor=DECODER_STRIDE // self.stride, mode="bilinear")
            height, width = (-(-side * 2 // self.stride) for side in key.shape[-2:])
            flow = flow[..., :height, :width]
        return flow

    def _decode(self, x: Tensor) -> Tensor:
        """Map pairs of images [T, 6, h, w] to the maps that the last flow is read from."""
        conv2 = _relu(self.conv2(_relu(self.conv1(x))))
        conv3 = _relu(self.conv3_1(_relu(self.conv3(conv2))))
        conv4 = _relu(self.conv4_1(_relu(self.conv4(conv3))))
        conv5 = _relu(self.conv5_1(_relu(self.conv5(conv4))))
        x = _relu(self.conv6_1(_relu(self.conv6(conv5))))
        for level, encoded in ((5, conv5), (4, conv4), (3, conv3), (2, conv2)):
            flow = self.get_submodule(f"upflow{level}")(self.get_submodule(f"flow{level + 1}")(x))
            decoded = _relu(self.get_submodule(f"deconv{level}")(x))
            x = torch.cat((encoded, _crop(decoded, encoded), _crop(flow, encoded)), dim=1)
        return x
