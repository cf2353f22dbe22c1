"""Fusion weights that know how far away a frame is, which the paper's conclusion leaves open."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .aggregation import AGGREGATOR_REGISTRY, Alignment
from .codes import Codes, Offsets
from .flow_guided_aggregation import FlowGuidedAggregator


@AGGREGATOR_REGISTRY.register()
class OffsetAwareAggregator(FlowGuidedAggregator):
    """Scores a frame by its similarity and by its distance in time from the key frame.

    The score is exp(a) * cosine + b, with a and b learned for each offset: how much similarity
    counts there, and how much a frame there is worth whatever it looks like. Both start at zero,
    where this is the paper's aggregation.
    """

    @configurable
    def __init__(self, *, max_offset: int, **kwargs: Any) -> None:
        """
        Args:
            max_offset: largest distance in frames with numbers of its own; frames beyond it use
                those of the farthest.
            kwargs: those of `FlowGuidedAggregator`.
        """
        super().__init__(**kwargs)
        if max_offset < 1:
            raise ValueError(f"INPUT.VIDEO.MAX_OFFSET must be positive, got {max_offset}")
        self.max_offset = max_offset
        self.log_scale = nn.Parameter(torch.zeros(2 * max_offset + 1))
        self.bias = nn.Parameter(torch.zeros(2 * max_offset + 1))

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, *, carried_flow: bool = False):
        ret = super().from_config(cfg, input_shape, carried_flow=carried_flow)
        return {**ret, "max_offset": cfg.INPUT.VIDEO.MAX_OFFSET}

    def align(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        given = offsets.shape[0] if isinstance(offsets, Tensor) else len(offsets)
        if given != refs["feature"].shape[0]:
            raise ValueError(f"{refs['feature'].shape[0]} reference frames, but {given} offsets")
        alignment = super().align(key, refs, offsets=offsets, flow=flow)
        alignment.scores = self._score(alignment.scores, offsets)
        alignment.key_score = self._score(alignment.key_score, [0])
        return alignment

    def _score(self, cosine: Tensor, offsets: Offsets) -> Tensor:
        """Scores of frames from their cosines [T, 1, H, W] and offsets."""
        reach = self.max_offset
        index = torch.as_tensor(offsets, dtype=torch.long, device=cosine.device)
        index = index.clamp(-reach, reach) + reach
        scale, bias = (x[index].view(-1, 1, 1, 1) for x in (self.log_scale.exp(), self.bias))
        return scale * cosine + bias
