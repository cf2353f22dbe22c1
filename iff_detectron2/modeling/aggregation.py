"""Temporal aggregation of feature maps: align the neighbours, weigh them, sum (Sec. 3, Fig. 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import flow_warp, warp_and_aggregate

from .alignment_loss import AlignmentLoss, build_alignment_loss
from .flow_estimator import FlowEstimator, build_flow_estimator

AGGREGATOR_REGISTRY = Registry("AGGREGATOR")
AGGREGATOR_REGISTRY.__doc__ = """
Registry of aggregators: modules that fuse the feature maps of a key frame and its neighbours.

The registered object is called with `obj(cfg, input_shape)` and returns an `Aggregator`.
"""

Codes = dict[str, Tensor]
"""What an aggregator keeps of frames: named tensors [N, ., H, W], "feature" among them."""


@dataclass
class Aggregation:
    """Result for one key frame.

    Attributes:
        feature: the fused map, [1, C, H, W].
        losses: losses of the alignment, by name; empty in testing.
        flow: displacement of each neighbour, [T, 2, H, W], in cells; None without alignment.
    """

    feature: Tensor
    losses: dict[str, Tensor]
    flow: Tensor | None


class Aggregator(nn.Module, ABC):
    """Fuses frames in two steps, so that the first is done once a frame and kept."""

    def encode(self, features: Tensor) -> Codes:
        """Maps the feature maps of single frames [N, C, H, W] to what fusing them needs."""
        return {"feature": features}

    @abstractmethod
    def forward(self, key: Codes, refs: Codes) -> Aggregation:
        """Fuses one key frame (codes [1, ., H, W]) with its neighbours (codes [T, ., H, W])."""


def build_aggregator(cfg, input_shape: ShapeSpec) -> Aggregator:
    """Builds the aggregator that MODEL.IFF.AGGREGATOR names."""
    return AGGREGATOR_REGISTRY.get(cfg.MODEL.IFF.AGGREGATOR)(cfg, input_shape)


@AGGREGATOR_REGISTRY.register()
class AverageAggregator(Aggregator):
    """The mean of the frames without alignment, to compare with."""

    @configurable
    def __init__(self, *, fuse_key_frame: bool = True) -> None:
        super().__init__()
        self.fuse_key_frame = fuse_key_frame

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        return {"fuse_key_frame": cfg.MODEL.IFF.FUSE_KEY_FRAME}

    def forward(self, key: Codes, refs: Codes) -> Aggregation:
        frames = refs["feature"]
        if self.fuse_key_frame or not len(frames):
            frames = torch.cat((key["feature"], frames))
        return Aggregation(frames.mean(dim=0, keepdim=True), {}, None)


class Embedding(nn.Sequential):
    """The three layers that map features to where their similarity is measured (FGFA)."""

    def __init__(self, in_channels: int, hidden_channels: int, channels: int) -> None:
        layers = (
            Conv2d(in_channels, hidden_channels, 1, activation=F.relu),
            Conv2d(hidden_channels, hidden_channels, 3, padding=1, activation=F.relu),
            Conv2d(hidden_channels, channels, 1),
        )
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
        super().__init__(*layers)


def similarity_weights(embeddings: Tensor, key: Tensor) -> Tensor:
    """Weighs frames by the cosine of their embeddings with the key's, softmax over the frames.

    Args:
        embeddings: of the fused frames, [T, E, H, W].
        key: of the key frame, [1, E, H, W].

    Returns:
        Weights [T, 1, H, W] in float32. Where a map is zero (outside of its frame) the cosine is 0.
    """
    cosine = F.cosine_similarity(embeddings.float(), key.float(), dim=1, eps=1e-8)
    return cosine.softmax(dim=0).unsqueeze(1)


@AGGREGATOR_REGISTRY.register()
class FlowGuidedAggregator(Aggregator):
    """Warps each neighbour by its flow (Eq. 1) and sums the frames by similarity (FGFA)."""

    @configurable
    def __init__(
        self,
        *,
        flow_estimator: FlowEstimator,
        embedding: nn.Module,
        alignment_loss: AlignmentLoss | None = None,
        fuse_key_frame: bool = True,
        embed_before_warp: bool = True,
    ) -> None:
        """
        Args:
            flow_estimator: predicts the flow of each neighbour.
            embedding: maps features [N, C, H, W] to embeddings [N, E, H, W].
            alignment_loss: loss of the alignment in training.
            fuse_key_frame: the key frame is one of the fused frames.
            embed_before_warp: warp the embedding, instead of embedding the warped features.
        """
        super().__init__()
        self.flow_estimator = flow_estimator
        self.embedding = embedding
        self.alignment_loss = alignment_loss
        self.fuse_key_frame = fuse_key_frame
        self.embed_before_warp = embed_before_warp

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        embedding = cfg.MODEL.IFF.EMBEDDING
        return {
            "flow_estimator": build_flow_estimator(cfg, input_shape),
            "embedding": Embedding(
                input_shape.channels, embedding.HIDDEN_CHANNELS, embedding.CHANNELS
            ),
            "alignment_loss": build_alignment_loss(cfg),
            "fuse_key_frame": cfg.MODEL.IFF.FUSE_KEY_FRAME,
            "embed_before_warp": embedding.BEFORE_WARP,
        }

    def encode(self, features: Tensor) -> Codes:
        codes = {"feature": features, "flow": self.flow_estimator.encode(features)}
        if self.embed_before_warp:
            codes["embedding"] = self.embedding(features)
        return codes

    def forward(self, key: Codes, refs: Codes) -> Aggregation:
        flow = self.flow_estimator(key["flow"], refs["flow"])
        losses = {}
        if self.training and self.alignment_loss is not None:
            losses["loss_trl"] = self.alignment_loss(key["feature"], refs["feature"], flow)
        if self.embed_before_warp and not torch.is_grad_enabled():
            # The same sum without the warped frames ever standing in memory together.
            feature = warp_and_aggregate(
                refs["feature"],
                refs["embedding"],
                flow,
                key["embedding"],
                key["feature"] if self._fuses_key(refs) else None,
            )
        else:
            frames, weights = self.align(key, refs, flow)
            feature = (weights.to(frames.dtype) * frames).sum(dim=0, keepdim=True)
        return Aggregation(feature, losses, flow)

    def align(self, key: Codes, refs: Codes, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Warps the neighbours and weighs the frames that are fused.

        Returns:
            Frames [T, C, H, W] and their weights [T, 1, H, W], which sum to 1 over the frames;
            with the key frame first, 1 + T of both.
        """
        frames = flow_warp(refs["feature"], flow)
        if self.embed_before_warp:
            embeddings, key_embedding = flow_warp(refs["embedding"], flow), key["embedding"]
        else:
            embeddings, key_embedding = self.embedding(frames), self.embedding(key["feature"])
        if self._fuses_key(refs):
            frames = torch.cat((key["feature"], frames))
            embeddings = torch.cat((key_embedding, embeddings))
        return frames, similarity_weights(embeddings, key_embedding)

    def _fuses_key(self, refs: Codes) -> bool:
        return self.fuse_key_frame or not len(refs["feature"])
