"""Fusion weights that know how good each frame is at each place, whatever it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import flow_warp

from .aggregation import AGGREGATOR_REGISTRY, Alignment
from .codes import Codes
from .flow_guided_aggregation import FlowGuidedAggregator

# What training starts with: the quality of all frames, and how much more the key frame counts.
_QUALITY, _KEY_BIAS = 2.0, 3.0


class Quality(nn.Sequential):
    """Three layers that map features [N, C, H, W] to how good they are, [N, 1, H, W].

    The weights of the last start at zero, where all frames are equally good.
    """

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        last = Conv2d(hidden_channels, 1, 1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, _QUALITY)
        super().__init__(
            Conv2d(in_channels, hidden_channels, 1, activation=F.relu),
            Conv2d(hidden_channels, hidden_channels, 3, padding=1, activation=F.relu),
            last,
        )


@AGGREGATOR_REGISTRY.register()
class QualityAwareAggregator(FlowGuidedAggregator):
    """Scores a frame by its similarity and by its own quality.

    With the cosine alone no frame weighs more than e^2 times as much as another, and a spoilt key
    frame, which resembles nothing as well as itself, weighs most of all. Here the score is
    exp(a) * cosine + softplus(q), with q found from each frame's own features and warped with them,
    and for the key frame b more: a clean key frame can keep its place, a spoilt one lose it. It
    starts with a large b, near the detector that sees each frame alone.
    """

    @configurable
    def __init__(self, *, quality: nn.Module, **kwargs: Any) -> None:
        """
        Args:
            quality: maps features [N, C, H, W] to [N, 1, H, W].
            kwargs: those of `FlowGuidedAggregator`.
        """
        super().__init__(**kwargs)
        self.quality = quality
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.key_bias = nn.Parameter(torch.tensor(_KEY_BIAS))

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, *, carried_flow: bool = False):
        ret = super().from_config(cfg, input_shape, carried_flow=carried_flow)
        hidden = cfg.MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS
        return {**ret, "quality": Quality(input_shape.channels, hidden)}

    def encode(self, features: Tensor, images: Tensor) -> Codes:
        # Above 0, so that what lies outside of a frame, where warping gives 0, is worst.
        quality = F.softplus(self.quality(features).float())
        return {**super().encode(features, images), "quality": quality}

    def align(
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
    ) -> Alignment:
        alignment = super().align(key, refs, offsets=offsets, flow=flow)
        assert alignment.flow is not None
        path = alignment.flow.detach() if self.detach_flow else alignment.flow
        scale = self.log_scale.exp()
        alignment.scores = scale * alignment.scores + flow_warp(refs["quality"], path.float())
        alignment.key_score = scale * alignment.key_score + key["quality"] + self.key_bias
        return alignment
