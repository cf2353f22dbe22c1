"""How much frames agree: the cosine of their embeddings (FGFA), and the sum weighed by it alone."""

from __future__ import annotations

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers.cosine import channel_cosine

from .aggregation import AGGREGATOR_REGISTRY, Aggregator, Alignment, key_frame_options
from .codes import Codes, Offsets


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


def build_embedding(cfg, input_shape: ShapeSpec) -> Embedding:
    """Build the layers that MODEL.IFF.EMBEDDING describes."""
    embedding = cfg.MODEL.IFF.EMBEDDING
    return Embedding(input_shape.channels, embedding.HIDDEN_CHANNELS, embedding.CHANNELS)


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
        return {
            "embedding": build_embedding(cfg, input_shape),
            **key_frame_options(cfg),
        }

    def encode(self, features: Tensor, images: Tensor) -> Codes:
        return {"feature": features, "embedding": self.embedding(features)}

    def align(
        self, key: Codes, refs: Codes, *, offsets: Offsets, flow: Tensor | None = None
    ) -> Alignment:
        own = key["embedding"]
        scores = similarity(refs["embedding"], own)
        return Alignment(refs["feature"], scores, similarity(own, own))
