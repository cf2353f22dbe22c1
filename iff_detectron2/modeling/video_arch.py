"""Makes a video detector of any Detectron2 meta-architecture, with its weights' names unchanged."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import ImageList
from torch import nn

from .temporal import TemporalAggregation


class VideoMixin:
    """Puts temporal aggregation between the backbone of a detector and its heads.

    For classes that call `self.preprocess_image(batched_inputs)` and then
    `self.backbone(images.tensor)`, as Detectron2's own do: the first is overridden to batch the
    neighbours with the key frames, a hook behind the second fuses them. Heads, losses and
    post-processing see key frames only.
    """

    temporal: TemporalAggregation
    _freezes_detector = False

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        ret = super().from_config(cfg)  # type: ignore[misc]
        ret["temporal"] = TemporalAggregation(cfg, ret["backbone"].output_shape())
        ret["freeze_detector"] = cfg.MODEL.IFF.FREEZE_DETECTOR
        return ret

    def attach(self, temporal: TemporalAggregation, *, freeze_detector: bool = False) -> None:
        """Puts `temporal` behind the backbone; called once, at the end of the constructor.

        Args:
            temporal: the temporal part.
            freeze_detector: everything but `temporal` keeps its weights and stays in evaluation
                mode where it normalises.
        """
        self._freezes_detector = freeze_detector
        if freeze_detector:
            for parameter in self.parameters():  # type: ignore[attr-defined]
                parameter.requires_grad_(False)
        self.temporal = temporal
        # A bound method of a submodule: a deep copy of the model gets a hook of its own.
        self.backbone.register_forward_hook(temporal.fuse)  # type: ignore[attr-defined]

    def train(self, mode: bool = True):
        super().train(mode)  # type: ignore[misc]
        if mode and self._freezes_detector:
            # The parts themselves stay in training mode, in which they compute losses.
            for name, module in self.named_modules():  # type: ignore[attr-defined]
                if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout) and not (
                    name.startswith("temporal.")
                ):
                    module.eval()
        return self

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalises, pads and batches the frames that are new; `image_sizes` are the key frames'.

        Args:
            batched_inputs: samples of `VIDDatasetMapper`: `image`, and for videos `ref_images`,
                `ref_offsets`, `video_id`, `frame_index`, `video_length`.
        """
        sizes = [tuple(sample["image"].shape[-2:]) for sample in batched_inputs]
        frames = self.temporal.plan(batched_inputs)
        prepare = super().preprocess_image  # type: ignore[misc]
        if frames:
            tensor = prepare([{"image": frame} for frame in frames]).tensor
        else:
            # The end of a video brings no new frame, but the heads still need a backbone call.
            tensor = prepare([{"image": batched_inputs[0]["image"]}]).tensor[:0]
        return ImageList(tensor, sizes)

    def forward(self, batched_inputs: list[dict]):
        """Returns the plain detector's output for the key frames, in training with `loss_trl`."""
        output = super().forward(batched_inputs)  # type: ignore[misc]
        if self.training:  # type: ignore[attr-defined]
            output.update(self.temporal.pop_losses())
        return output

    def reset(self) -> None:
        """Forgets the stream: the next frame starts a new video."""
        self.temporal.reset()


def make_video_arch(base: type[nn.Module]) -> type[nn.Module]:
    """Makes a video meta-architecture of a plain one and registers it as "Video" + its name.

    Args:
        base: a `@configurable` meta-architecture whose `from_config` returns its `backbone` and
            whose `forward` calls `preprocess_image`, then `backbone`.

    Returns:
        The new class. Its state dict has the plain detector's names plus those under `temporal`.

    Raises:
        TypeError: if `base` lacks one of these.
    """
    for name in ("from_config", "preprocess_image", "forward"):
        if not callable(getattr(base, name, None)):
            raise TypeError(f"{base.__name__} cannot be made a video detector: it has no {name}")

    def __init__(
        self, *, temporal: TemporalAggregation, freeze_detector: bool = False, **kwargs: Any
    ) -> None:
        base.__init__(self, **kwargs)
        self.attach(temporal, freeze_detector=freeze_detector)

    name = f"Video{base.__name__}"
    doc = f"`{base.__name__}` on features aggregated over time; see `VideoMixin`."
    attributes = {"__init__": configurable(__init__), "__doc__": doc, "__module__": __name__}
    cls = type(name, (VideoMixin, base), attributes)
    META_ARCH_REGISTRY.register(cls)
    return cls


VideoGeneralizedRCNN = make_video_arch(GeneralizedRCNN)
