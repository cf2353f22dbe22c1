"""Aggregation that samples reference frames with deformable convolutions: STSN's idea, no flow."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers.deform_conv import deform_conv

from .aggregation import AGGREGATOR_REGISTRY, Aggregator, Alignment, key_frame_options
from .codes import Codes, Offsets
from .similarity_aggregation import build_embedding, similarity

KERNEL = 3


@AGGREGATOR_REGISTRY.register()
class DeformableAggregator(Aggregator):
    """Samples each reference frame at offsets found from it and the key frame; sums by similarity.

    After STSN (Bertasius et al., "Object Detection in Video with Spatiotemporal Sampling
    Networks"), with one sampling layer in place of their stack of four. Where flow moves a cell as
    a whole, here each of its nine taps moves on its own, by offsets that only the detector's
    loss trains. Training starts from no offset and a kernel that copies.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        groups: int,
        embedding: nn.Module,
        fuse_key_frame: bool = True,
        fuse_key_frame_in_training: bool = True,
    ) -> None:
        """
        Args:
            in_channels: channels of the features.
            channels: width of the layers that find the offsets.
            groups: groups of features that have offsets of their own.
            embedding: maps features [N, C, H, W] to embeddings [N, E, H, W].
            fuse_key_frame: the key frame is one of the fused frames.
            fuse_key_frame_in_training: it is in training, too.
        """
        super().__init__(
            fuse_key_frame=fuse_key_frame, fuse_key_frame_in_training=fuse_key_frame_in_training
        )
        if groups < 1 or in_channels % groups:
            raise ValueError(
                f"MODEL.IFF.DEFORM.GROUPS ({groups}) must divide the {in_channels} channels of the "
                "features"
            )
        self.reduce = Conv2d(in_channels, channels, 1, activation=F.relu)
        self.relate = Conv2d(2 * channels, channels, 3, padding=1, activation=F.relu)
        self.offset = Conv2d(channels, 2 * groups * KERNEL**2, 3, padding=1)
        self.sample = nn.Conv2d(in_channels, in_channels, KERNEL, padding=KERNEL // 2, bias=False)
        self.embedding = embedding
        for layer in (self.reduce, self.relate):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        nn.init.dirac_(self.sample.weight)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, *, carried_flow: bool = False):
        deform = cfg.MODEL.IFF.DEFORM
        return {
            "in_channels": input_shape.channels,
            "channels": deform.CHANNELS,
            "groups": deform.GROUPS,
            "embedding": build_embedding(cfg, input_shape),
            **key_frame_options(cfg),
        }

    def encode(self, features: Tensor, images: Tensor) -> Codes:
        return {
            "feature": features,
            "sampling": self.reduce(features),
            "embedding": self.embedding(features),
        }

    def align(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        pairs = torch.cat((key["sampling"].expand_as(refs["sampling"]), refs["sampling"]), dim=1)
        taps = self.offset(self.relate(pairs))
        frames = refs["feature"]
        if frames.shape[0]:
            padding = (KERNEL // 2, KERNEL // 2)
            frames = deform_conv(frames, taps, self.sample.weight, padding=padding)
        else:
            # Distributed training stops at a weight without a gradient.
            frames = frames + (taps.sum() + self.sample.weight.sum()) * 0
        return Alignment(
            frames,
            similarity(self.embedding(frames), key["embedding"]),
            similarity(key["embedding"], key["embedding"]),
        )
