"""Fusion that need not trust the flow: each place of a frame is taken where it moved or stayed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .aggregation import AGGREGATOR_REGISTRY, Alignment
from .codes import Codes, Offsets
from .flow_guided_aggregation import FlowGuidedAggregator
from .similarity_aggregation import similarity


@AGGREGATOR_REGISTRY.register()
class TwoHypothesesAggregator(FlowGuidedAggregator):
    """Fuses each reference frame twice, moved by its flow and as it is, weighed by similarity.

    Beyond the paper. A flow that is led to the most similar feature spoils what stands still; here
    it must be more like the key frame there than no motion is, place by place. With w and s the
    cosines of the moved and the unmoved embedding (FGFA), the frame is the sum of both maps with
    weights softmax(w, s), and its score log((e^w + e^s) / 2). It has the layers of
    `FlowGuidedAggregator` by the same names, and with zero flow its result.
    """

    def align(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        moved = super().align(key, refs, offsets=offsets, flow=flow)
        own, still = (
            codes["embedding"] if self.embed_before_warp else self.embedding(codes["feature"])
            for codes in (key, refs)
        )
        scores = torch.stack((moved.scores, similarity(still, own)))
        share = scores.softmax(dim=0).to(moved.frames.dtype)
        moved.frames = share[0] * moved.frames + share[1] * refs["feature"]
        moved.scores = scores.logsumexp(dim=0) - math.log(2)
        return moved
