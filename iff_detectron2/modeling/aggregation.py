"""Temporal aggregation of feature maps: align the frames, weigh them, sum (Sec. 3, Fig. 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import flow_warp, warp_and_aggregate
from iff_detectron2.layers.cosine import channel_cosine

from .alignment_loss import AlignmentLoss, build_alignment_loss
from .codes import Codes, parts_of
from .flow_estimator import FlowEstimator, build_flow_estimator

AGGREGATOR_REGISTRY = Registry("AGGREGATOR")
AGGREGATOR_REGISTRY.__doc__ = """
Registry of aggregators: modules that fuse the feature maps of a key frame and its reference frames.

The registered object is called with `obj(cfg, input_shape, carried_flow=...)` and returns an
`Aggregator`. With `carried_flow` it is handed the flow of another feature map and estimates none.
"""


@dataclass
class Alignment:
    """Neighbours as the key frame would see them, and what speaks for each.

    Attributes:
        frames: aligned features of the reference frames, [T, C, H, W].
        scores: [T, 1, H, W] in float32; the fusion weights are their softmax over the frames.
        key_score: the same for the key frame, [1, 1, H, W].
        flow: displacement of each reference frame, [T, 2, H, W], in cells; None without flow.
    """

    frames: Tensor
    scores: Tensor
    key_score: Tensor
    flow: Tensor | None = None


@dataclass
class Aggregation:
    """Result for one key frame.

    Attributes:
        feature: the fused map, [1, C, H, W].
        losses: losses of the alignment, by name; empty in testing.
        flow: displacement of each reference frame, [T, 2, H, W], in cells; None without alignment.
    """

    feature: Tensor
    losses: dict[str, Tensor]
    flow: Tensor | None


class Aggregator(nn.Module, ABC):
    """Fuses frames in two steps, so that the first is done once per frame and kept.

    A subclass says in `align` how reference frames are brought to the key frame and how each is
    scored; the weighted sum over the frames, whole or in chunks, is here.
    """

    def __init__(
        self, *, fuse_key_frame: bool = True, fuse_key_frame_in_training: bool = True
    ) -> None:
        """
        Args:
            fuse_key_frame: the key frame is one of the fused frames; without reference frames it
                is anyway.
            fuse_key_frame_in_training: False takes the key frame out of the fused frames in
                training, as in FGFA's release.
        """
        super().__init__()
        self.fuse_key_frame = fuse_key_frame
        self.fuse_key_frame_in_training = fuse_key_frame_in_training

    @property
    def estimates_flow(self) -> bool:
        """Whether this aggregator predicts a flow that could be carried to other maps."""
        return False

    def encode(self, features: Tensor, images: Tensor) -> Codes:
        """Map what is known of single frames to what fusing them needs.

        Args:
            features: feature maps, [N, C, H, W].
            images: the batch as the backbone saw it, normalised and padded, [N, 3, H', W'].
        """
        return {"feature": features}

    @abstractmethod
    def align(
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
    ) -> Alignment:
        """Bring reference frames to the key frame and score them.

        Args:
            key: codes of the key frame, [1, ., H, W].
            refs: codes of T reference frames, [T, ., H, W].
            offsets: frames from the key frame to each reference frame, negative for earlier ones.
            flow: flow [T, 2, H, W] carried from another map, in cells of this one; None where
                this aggregator is to find out for itself.
        """

    def losses(self, key: Codes, refs: Codes, alignment: Alignment) -> dict[str, Tensor]:
        """Losses of an alignment in training, by name."""
        return {}

    def forward(
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
    ) -> Aggregation:
        """Fuse a key frame with its reference frames; arguments as in `align`."""
        alignment = self.align(key, refs, offsets=offsets, flow=flow)
        frames, weights = self.fused_frames(key, alignment)
        feature = (weights.to(frames.dtype) * frames).sum(dim=0, keepdim=True)
        losses = self.losses(key, refs, alignment) if self.training else {}
        return Aggregation(feature, losses, alignment.flow)

    def fused_frames(self, key: Codes, alignment: Alignment) -> tuple[Tensor, Tensor]:
        """Return the fused frames [T, C, H, W] and their weights [T, 1, H, W], which sum to 1.

        With the key frame, which then stands first, 1 + T of both.
        """
        frames, scores = alignment.frames, alignment.scores
        if self._fuses_key(len(frames)):
            frames, scores = _with_key(key, alignment)
        return frames, scores.softmax(dim=0)

    def forward_in_chunks(
        self,
        key: Codes,
        chunks: Iterable[tuple[Codes, Sequence[int], Tensor | None]],
        num_refs: int,
    ) -> Aggregation:
        """Fuse as `forward` does, for testing, with one chunk of reference frames in memory.

        Args:
            key: codes of the key frame, [1, ., H, W].
            chunks: the reference frames in parts, each with its offsets and carried flow.
            num_refs: reference frames of all chunks together, at least 1.
        """
        sums: tuple[Tensor, Tensor, Tensor] | None = None  # frames, weights, largest score
        flows = []
        for refs, offsets, carried in chunks:
            alignment = self.align(key, refs, offsets=offsets, flow=carried)
            frames, scores = alignment.frames, alignment.scores
            if sums is None and self._fuses_key(num_refs):
                frames, scores = _with_key(key, alignment)
            if alignment.flow is not None:
                flows.append(alignment.flow)
            # A softmax over frames that come chunk by chunk: sums of exp(score - largest score).
            top = scores.amax(dim=0, keepdim=True)
            top = top if sums is None else torch.maximum(top, sums[2])
            shares = (scores - top).exp()
            total = (shares * frames.float()).sum(dim=0, keepdim=True)
            mass = shares.sum(dim=0, keepdim=True)
            if sums is not None:
                fade = (sums[2] - top).exp()
                total, mass = total + fade * sums[0], mass + fade * sums[1]
            sums = total, mass, top
        if sums is None:
            raise ValueError("there is nothing to fuse: no chunk of reference frames")
        feature = (sums[0] / sums[1]).to(key["feature"].dtype)
        return Aggregation(feature, {}, torch.cat(flows) if flows else None)

    def _fuses_key(self, num_refs: int) -> bool:
        now = not self.training or self.fuse_key_frame_in_training
        return (self.fuse_key_frame and now) or not num_refs


def _with_key(key: Codes, alignment: Alignment) -> tuple[Tensor, Tensor]:
    """Frames and scores of an alignment with those of the key frame in front."""
    frames = torch.cat((key["feature"].to(alignment.frames.dtype), alignment.frames))
    return frames, torch.cat((alignment.key_score, alignment.scores))


def build_aggregator(cfg, input_shape: ShapeSpec, *, carried_flow: bool = False) -> Aggregator:
    """Build the aggregator that MODEL.IFF.AGGREGATOR names.

    Raises:
        ValueError: if the aggregator does not follow FUSE_KEY_FRAME_IN_TRAINING.
    """
    build = AGGREGATOR_REGISTRY.get(cfg.MODEL.IFF.AGGREGATOR)
    aggregator = build(cfg, input_shape, carried_flow=carried_flow)
    wanted = cfg.MODEL.IFF.FUSE_KEY_FRAME_IN_TRAINING
    if aggregator.fuse_key_frame_in_training != wanted:
        raise ValueError(
            f"MODEL.IFF.FUSE_KEY_FRAME_IN_TRAINING is {wanted}, but {cfg.MODEL.IFF.AGGREGATOR} "
            "was built without it: its from_config must return `key_frame_options(cfg)` too"
        )
    return aggregator


def key_frame_options(cfg) -> dict[str, bool]:
    """Return the arguments of `Aggregator` that a config holds."""
    iff = cfg.MODEL.IFF
    return {
        "fuse_key_frame": iff.FUSE_KEY_FRAME,
        "fuse_key_frame_in_training": iff.FUSE_KEY_FRAME_IN_TRAINING,
    }


@AGGREGATOR_REGISTRY.register()
class AverageAggregator(Aggregator):
    """The mean of the frames without alignment, to compare with."""

    @configurable
    def __init__(
        self, *, fuse_key_frame: bool = True, fuse_key_frame_in_training: bool = True
    ) -> None:
        super().__init__(
            fuse_key_frame=fuse_key_frame, fuse_key_frame_in_training=fuse_key_frame_in_training
        )

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, *, carried_flow: bool = False):
        return key_frame_options(cfg)

    def align(
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
    ) -> Alignment:
        frames = refs["feature"]
        scores = frames.new_zeros((len(frames), 1, *frames.shape[-2:]), dtype=torch.float32)
        return Alignment(frames, scores, scores.new_zeros((1, *scores.shape[1:])))


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


def similarity(embeddings: Tensor, key: Tensor) -> Tensor:
    """Compare frames with the key frame by the cosine of their embeddings (FGFA).

    Args:
        embeddings: of the frames, [T, E, H, W].
        key: of the key frame, [1, E, H, W].

    Returns:
        Cosines [T, 1, H, W] in float32; 0, with no gradient, where a map is zero, as outside of its
        frame.
    """
    return channel_cosine(embeddings.float(), key.float()).unsqueeze(1)


@AGGREGATOR_REGISTRY.register()
class SimilarityAggregator(Aggregator):
    """FGFA's weights without alignment: what they give alone, to compare with."""

    @configurable
    def __init__(
        self,
        *,
        embedding: nn.Module,
        fuse_key_frame: bool = True,
        fuse_key_frame_in_training: bool = True,
    ) -> None:
        """
        Args:
            embedding: maps features [N, C, H, W] to embeddings [N, E, H, W].
            fuse_key_frame: the key frame is one of the fused frames.
            fuse_key_frame_in_training: it is in training, too.
        """
        super().__init__(
            fuse_key_frame=fuse_key_frame, fuse_key_frame_in_training=fuse_key_frame_in_training
        )
        self.embedding = embedding

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, *, carried_flow: bool = False):
        embedding = cfg.MODEL.IFF.EMBEDDING
        return {
            "embedding": Embedding(
                input_shape.channels, embedding.HIDDEN_CHANNELS, embedding.CHANNELS
            ),
            **key_frame_options(cfg),
        }

    def encode(self, features: Tensor, images: Tensor) -> Codes:
        return {"feature": features, "embedding": self.embedding(features)}

    def align(
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
    ) -> Alignment:
        own = key["embedding"]
        scores = similarity(refs["embedding"], own)
        return Alignment(refs["feature"], scores, similarity(own, own))


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
        embedding = cfg.MODEL.IFF.EMBEDDING
        return {
            "flow_estimator": None if carried_flow else build_flow_estimator(cfg, input_shape),
            "embedding": Embedding(
                input_shape.channels, embedding.HIDDEN_CHANNELS, embedding.CHANNELS
            ),
            # A loss on the flow belongs where the flow is made.
            "alignment_loss": None if carried_flow else build_alignment_loss(cfg),
            "embed_before_warp": embedding.BEFORE_WARP,
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
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
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
        self, key: Codes, refs: Codes, *, offsets: Sequence[int], flow: Tensor | None = None
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
            key["feature"] if self._fuses_key(len(flow)) else None,
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
