"""Aggregation of frames that are aligned by their flow and weighed by similarity (Fig. 2)."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from iff_detectron2.layers import flow_warp, warp_and_aggregate

from .aggregation import (
    AGGREGATOR_REGISTRY,
    Aggregation,
    Aggregator,
    Alignment,
    key_frame_options,
)
from .alignment_loss import AlignmentLoss, build_alignment_loss
from .codes import Codes, Offsets, parts_of
from .flow_estimator import FlowEstimator, build_flow_estimator
from .similarity_aggregation import build_embedding, similarity


@AGGREGATOR_REGISTRY.register()
class FlowGuidedAggregator(Aggregator):
    """Warps each reference frame by its flow (Eq. 1) and sums the frames by similarity (FGFA)."""

    @configurable
    def __init__(
        self,
        *,
        flow_estimator: FlowEstimator | None,
        embedding: nn.Module,
        alignment_loss: AlignmentLoss | None = None,
        fuse_key_frame: bool = True,
        fuse_key_frame_in_training: bool = True,
        embed_before_warp: bool = True,
        detach_flow: bool = False,
    ) -> None:
        """
        Args:
            flow_estimator: predicts the flow of each reference frame; None where it is carried from
                another feature map.
            embedding: maps features [N, C, H, W] to embeddings [N, E, H, W].
            alignment_loss: loss of the alignment in training.
            fuse_key_frame: the key frame is one of the fused frames.
            fuse_key_frame_in_training: it is in training, too.
            embed_before_warp: warp the embedding, instead of embedding the warped features.
            detach_flow: only the losses on the alignment train the flow, not those of the detector.
        """
        super().__init__(
            fuse_key_frame=fuse_key_frame, fuse_key_frame_in_training=fuse_key_frame_in_training
        )
        self.flow_estimator = flow_estimator
        self.embedding = embedding
        self.alignment_loss = alignment_loss
        self.embed_before_warp = embed_before_warp
        self.detach_flow = detach_flow

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, *, carried_flow: bool = False):
        return {
            "flow_estimator": None if carried_flow else build_flow_estimator(cfg, input_shape),
            "embedding": build_embedding(cfg, input_shape),
            # A loss on the flow belongs where the flow is made.
            "alignment_loss": None if carried_flow else build_alignment_loss(cfg),
            "embed_before_warp": cfg.MODEL.IFF.EMBEDDING.BEFORE_WARP,
            **key_frame_options(cfg),
            "detach_flow": cfg.MODEL.IFF.FLOW.DETACH,
        }

    @property
    def estimates_flow(self) -> bool:
        return self.flow_estimator is not None

    def encode(self, features: Tensor, images: Tensor) -> Codes:
        codes = {"feature": features}
        if self.flow_estimator is not None:
            codes["flow"] = self.flow_estimator.encode(features, images)
        if self.embed_before_warp:
            codes["embedding"] = self.embedding(features)
        return codes

    def align(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        flow = self._flow(key, refs, flow)
        path = flow.detach() if self.detach_flow else flow
        frames = flow_warp(refs["feature"], path)
        if self.embed_before_warp:
            embeddings, key_embedding = flow_warp(refs["embedding"], path), key["embedding"]
        else:
            embeddings, key_embedding = self.embedding(frames), self.embedding(key["feature"])
        return Alignment(
            frames,
            similarity(embeddings, key_embedding),
            similarity(key_embedding, key_embedding),
            flow,
        )

    def losses(self, key: Codes, refs: Codes, alignment: Alignment) -> dict[str, Tensor]:
        if self.alignment_loss is None:
            return {}
        return {"loss_trl": self.alignment_loss(key["feature"], refs["feature"], alignment.flow)}

    def forward(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Aggregation:
        if torch.is_grad_enabled() or self.training or not self._weighs_by_warped_embeddings():
            return super().forward(key, refs, offsets=offsets, flow=flow)
        # The same sum without the warped frames ever standing in memory together.
        flow = self._flow(key, refs, flow)
        feature = warp_and_aggregate(
            parts_of(refs, "feature"),
            parts_of(refs, "embedding"),
            flow,
            key["embedding"],
            key["feature"] if self._fuses_key(flow.shape[0]) else None,
        )
        return Aggregation(feature, {}, flow)

    def _weighs_by_warped_embeddings(self) -> bool:
        """Whether `align` and what follows it are those of this class, not of a subclass."""
        steps = ("align", "fused_frames")
        own = all(
            getattr(getattr(self, step), "__func__", None) is getattr(FlowGuidedAggregator, step)
            for step in steps
        )
        return own and self.embed_before_warp

    def _flow(self, key: Codes, refs: Codes, carried: Tensor | None) -> Tensor:
        if self.flow_estimator is not None:
            if torch.is_grad_enabled():
                return self.flow_estimator(key["flow"], refs["flow"])
            return self.flow_estimator.estimate(key["flow"], parts_of(refs, "flow"))
        if carried is None:
            raise ValueError("an aggregator without a flow estimator needs the flow of another map")
        return carried
