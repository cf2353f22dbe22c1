"""In-network feature flow estimation: the basic and the advanced IFF module (Sec. 3.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import local_correlation
from iff_detectron2.layers.pixels import join_samples

FLOW_ESTIMATOR_REGISTRY = Registry("FLOW_ESTIMATOR")
FLOW_ESTIMATOR_REGISTRY.__doc__ = """
Registry of flow estimators: modules that predict the flow from a key frame to its reference frames.

The registered object is called with `obj(cfg, input_shape)` and returns a `FlowEstimator`.
"""


class FlowEstimator(nn.Module, ABC):
    """Predicts feature flow in two steps, so that the first is done once per frame.

    Attributes:
        cpu_batch: reference frames that `estimate` takes at a time on a CPU, whose cache holds the
            maps of few.
    """

    cpu_batch = 4

    @abstractmethod
    def encode(self, features: Tensor, images: Tensor) -> Tensor:
        """Map single frames to what pairs of them need.

        Args:
            features: feature maps, [N, C, H, W].
            images: the batch as the backbone saw it, normalised and padded, [N, 3, H', W'].

        Returns:
            One encoding per frame, [N, ., ., .].
        """

    @abstractmethod
    def forward(self, key: Tensor, refs: Tensor) -> Tensor:
        """Predicts the flow M_{j->i} from each reference frame j to the key frame i.

        Args:
            key: encoding of the key frame, batch of 1.
            refs: encodings of its reference frames, batch of T.

        Returns:
            Displacement [T, 2, H, W], dx and dy in cells of the map: the key's cell p looks at
            p + M(p) of the reference frame.
        """

    def estimate(self, key: Tensor, refs: Tensor | Sequence[Tensor]) -> Tensor:
        """Predicts as `forward` does, for testing: never with all pairs in memory on a CPU.

        Args:
            key: encoding of the key frame, batch of 1.
            refs: encodings of its reference frames, T in all; they need not lie together.
        """
        return torch.cat([self(key, group) for group in self._groups(refs, key.device)])

    def _groups(self, refs: Tensor | Sequence[Tensor], device: torch.device) -> list[Tensor]:
        if torch.compiler.is_compiling():  # an exported program takes any number of frames
            return [join_samples(refs)]
        # What lies together is cut into views; single frames are copied into their group alone.
        one = isinstance(refs, Tensor)
        frames = refs if one else [frame for part in refs for frame in _single(part)]
        count = max(len(frames), 1)
        size = self.cpu_batch if device.type == "cpu" else count
        return [join_samples(frames[start : start + size]) for start in range(0, count, size)]


def _single(part: Tensor) -> Sequence[Tensor]:
    return (part,) if part.shape[0] == 1 else part.split(1)


def build_flow_estimator(cfg, input_shape: ShapeSpec) -> FlowEstimator:
    """Build the flow estimator that MODEL.IFF.FLOW names, frozen if it says so."""
    flow = cfg.MODEL.IFF.FLOW
    estimator = FLOW_ESTIMATOR_REGISTRY.get(flow.NAME)(cfg, input_shape)
    return estimator.requires_grad_(not flow.FREEZE)


def _conv(in_channels: int, out_channels: int, kernel_size: int, relu: bool = True) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        activation=F.relu if relu else None,
    )
    # Keeps the scale of the features. The correlation squares it, and what is large in front of
    # the flow layer throws the flow out of the map in the first steps, never to come back.
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    nn.init.constant_(conv.bias, 0)
    return conv


def _flow_conv(in_channels: int) -> Conv2d:
    """Return the last layer, 3x3 to 2 channels, at zero: training starts from "no motion"."""
    conv = Conv2d(in_channels, 2, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


@FLOW_ESTIMATOR_REGISTRY.register()
class BasicIFF(FlowEstimator):
    """The basic IFF module (Fig. 3): two shared layers per frame, one on their concatenation."""

    cpu_batch = 1

    @configurable
    def __init__(self, *, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = _conv(in_channels, channels, 1)
        self.embed = _conv(channels, channels, 3)
        self.flow = _flow_conv(2 * channels)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        return {"in_channels": input_shape.channels, "channels": cfg.MODEL.IFF.FLOW.CHANNELS}

    def encode(self, features: Tensor, images: Tensor) -> Tensor:
        return self.embed(self.reduce(features))

    def forward(self, key: Tensor, refs: Tensor) -> Tensor:
        return self.flow(torch.cat((key.expand_as(refs), refs), dim=1))


class EmbeddedBlock(nn.Module):
    """EB-1 and EB-2 (Fig. 5): a 1x1 and a 3x3 layer beside a 1x1 layer, summed."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.left1 = _conv(in_channels, channels, 1)
        self.left2 = _conv(channels, channels, 3, relu=False)
        self.right = _conv(in_channels, channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, channels, H, W]."""
        return F.relu(self.left2(self.left1(x)) + self.right(x))


@FLOW_ESTIMATOR_REGISTRY.register()
class AdvancedIFF(FlowEstimator):
    """The advanced IFF module (Fig. 4): correlation of EB-1 maps plus EB-2 of the key frame."""

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        pair_channels: int,
        max_displacement: int,
        correlation_stride: int,
    ) -> None:
        super().__init__()
        if correlation_stride < 1 or max_displacement % correlation_stride:
            raise ValueError(
                f"MODEL.IFF.FLOW.MAX_DISPLACEMENT ({max_displacement}) must be a multiple of "
                f"MODEL.IFF.FLOW.CORRELATION_STRIDE ({correlation_stride})"
            )
        self.max_displacement = max_displacement
        self.correlation_stride = correlation_stride
        self.eb1 = EmbeddedBlock(in_channels, channels)
        self.eb2 = EmbeddedBlock(channels, pair_channels)
        displacements = (2 * (max_displacement // correlation_stride) + 1) ** 2
        self.relation = _conv(displacements, pair_channels, 3, relu=False)
        self.fuse = _conv(pair_channels, pair_channels, 3)
        self.flow = _flow_conv(pair_channels)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        flow = cfg.MODEL.IFF.FLOW
        return {
            "in_channels": input_shape.channels,
            "channels": flow.CHANNELS,
            "pair_channels": flow.PAIR_CHANNELS,
            "max_displacement": flow.MAX_DISPLACEMENT,
            "correlation_stride": flow.CORRELATION_STRIDE,
        }

    def encode(self, features: Tensor, images: Tensor) -> Tensor:
        return self.eb1(features)

    def forward(self, key: Tensor, refs: Tensor) -> Tensor:
        return self._pairs(key, self.eb2(key), refs)

    def estimate(self, key: Tensor, refs: Tensor | Sequence[Tensor]) -> Tensor:
        # EB-2 sees the key frame alone, so it runs once for all reference frames.
        context = self.eb2(key)
        groups = self._groups(refs, key.device)
        return torch.cat([self._pairs(key, context, group) for group in groups])

    def _pairs(self, key: Tensor, context: Tensor, refs: Tensor) -> Tensor:
        correlation = local_correlation(key, refs, self.max_displacement, self.correlation_stride)
        return self.flow(self.fuse(F.relu(self.relation(correlation) + context)))


# Factor of the cosines in front of the layer that reads them: about what makes their spread over
# the displacements 1. With more the first steps throw the flow far and silence the layers behind.
START_SCALE = 2.0

# Slope below zero behind the correlation, so that no layer there can go silent for good.
SLOPE = 0.1


# Share of the typical length below which a vector stays short.
FLAT = 0.1


def directions(x: Tensor) -> Tensor:
    """Take from each vector [N, C, H, W] the mean over the map, and its length.

    What all places have in common says nothing of where a thing went, nor does its brightness. A
    vector that hardly differs from the mean, as where nothing is to be seen, stays shorter than 1,
    so that neither its value nor its gradient is blown up.
    """
    x = x.float()
    x = x - x.mean(dim=(2, 3), keepdim=True)
    square = x.square().sum(dim=1, keepdim=True)
    flat = FLAT**2 * square.detach().mean(dim=(2, 3), keepdim=True) + 1e-6
    return x / (square + flat).sqrt()


@FLOW_ESTIMATOR_REGISTRY.register()
class DirectionalIFF(AdvancedIFF):
    """The advanced module on directions: correlation of normalised vectors, times a learned factor.

    Beyond the paper. Behind the correlation the ReLUs are leaky; layers and names are those of
    `AdvancedIFF`, and `log_scale`.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        """
        Args:
            kwargs: those of `AdvancedIFF`.
        """
        super().__init__(**kwargs)
        self.fuse.activation = partial(F.leaky_relu, negative_slope=SLOPE)
        self.log_scale = nn.Parameter(torch.tensor(START_SCALE).log())

    def _pairs(self, key: Tensor, context: Tensor, refs: Tensor) -> Tensor:
        reach = self.max_displacement, self.correlation_stride
        # The operator divides by the number of channels.
        cosines = key.shape[1] * local_correlation(directions(key), directions(refs), *reach)
        correlation = (self.log_scale.exp() * cosines).to(key.dtype)
        relation = F.leaky_relu(self.relation(correlation) + context, negative_slope=SLOPE)
        return self.flow(self.fuse(relation))
