"""Temporal aggregation of feature maps: align the frames, weigh them, sum (Sec. 3, Fig. 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from .codes import Codes, Offsets

AGGREGATOR_REGISTRY = Registry("AGGREGATOR")
AGGREGATOR_REGISTRY.__doc__ = """
Registry of aggregators: modules that fuse the feature maps of a key frame and its reference frames.

The registered object is called with `obj(cfg, input_shape, carried_flow=...)` and returns an
`Aggregator`. With `carried_flow` it is handed the flow of another feature map and estimates none.
"""


@dataclass
class Alignment:
    """Reference frames as the key frame would see them, and what speaks for each.

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
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        """Bring reference frames to the key frame and score them.

        Args:
            key: codes of the key frame, [1, ., H, W].
            refs: codes of T reference frames, [T, ., H, W].
            offsets: frames from the key frame to each reference frame, negative for earlier ones;
                int64 [T] in a program that is exported.
            flow: flow [T, 2, H, W] carried from another map, in cells of this one; None where
                this aggregator is to find out for itself.
        """

    def losses(self, key: Codes, refs: Codes, alignment: Alignment) -> dict[str, Tensor]:
        """Losses of an alignment in training, by name.

        Args:
            key: codes of the key frame, [1, ., H, W].
            refs: codes of the T reference frames, [T, ., H, W].
            alignment: what `align` returned.
        """
        return {}

    def forward(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
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
        if self._fuses_key(frames.shape[0]):
            frames, scores = _with_key(key, alignment)
        return frames, scores.softmax(dim=0)

    def forward_in_chunks(
        self,
        key: Codes,
        chunks: Iterable[tuple[Codes, Offsets, Tensor | None]],
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

    Args:
        cfg: config with MODEL.IFF.
        input_shape: channels and stride of the feature map.
        carried_flow: the flow comes from another map, so that none is estimated.

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
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        frames = refs["feature"]
        shape = (frames.shape[0], 1, *frames.shape[-2:])
        scores = frames.new_zeros(shape, dtype=torch.float32)
        return Alignment(frames, scores, scores.new_zeros((1, *scores.shape[1:])))
