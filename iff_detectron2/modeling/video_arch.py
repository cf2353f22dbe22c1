"""Makes a video detector of any Detectron2 meta-architecture, with its weights' names unchanged."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    PanopticFPN,
    ProposalNetwork,
    RetinaNet,
    SemanticSegmentor,
)
from detectron2.structures import ImageList
from torch import Tensor, nn

from .fcos import ConfigurableFCOS
from .temporal import TemporalAggregation


class VideoMixin:
    """Puts temporal aggregation between the backbone of a detector and its heads.

    For classes that call `self.preprocess_image(batched_inputs)` and then
    `self.backbone(images.tensor)`, as most of Detectron2's own do: the first is overridden to batch
    the neighbours with the key frames, a hook behind the second fuses them. Heads, losses and
    post-processing see key frames only. Classes that normalise images inside their `forward` are
    served by `InlineVideoMixin`.
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
        """Put `temporal` behind the backbone; called once, at the end of the constructor.

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
        """Return the plain detector's output for the key frames, in training with `loss_trl`."""
        output = super().forward(batched_inputs)  # type: ignore[misc]
        if self.training:  # type: ignore[attr-defined]
            output.update(self.temporal.pop_losses())
        return output

    def observe(self, sample: dict) -> None:
        """Encode a frame of a stream and keep it, ahead of its turn as key frame.

        Args:
            sample: `image`, `video_id`, `frame_index` and `video_length`, as for `forward`.
        """
        images = self._normalise(sample["image"])
        # Without a plan the maps pass the hook as they are.
        self.temporal.observe(sample, self.backbone(images), images)  # type: ignore[attr-defined]

    def _normalise(self, image: Tensor) -> Tensor:
        """Return a batch of one image, [1, 3, H, W], as the backbone gets it."""
        return super().preprocess_image([{"image": image}]).tensor  # type: ignore[misc]

    def reset(self) -> None:
        """Forgets the stream: the next frame starts a new video."""
        self.temporal.reset()


class InlineVideoMixin(VideoMixin):
    """`VideoMixin` for detectors that normalise and batch images inside their `forward`.

    They prepare the key frames as always. In front of the backbone a hook exchanges that batch for
    one of the frames that are new, normalised with `pixel_mean` and `pixel_std` and padded alike.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    _frames: list[Tensor] | None = None

    def attach(self, temporal: TemporalAggregation, *, freeze_detector: bool = False) -> None:
        super().attach(temporal, freeze_detector=freeze_detector)
        self.backbone.register_forward_pre_hook(self._exchange)  # type: ignore[attr-defined]

    def forward(self, batched_inputs: list[dict]):
        self._frames = self.temporal.plan(batched_inputs)
        return super().forward(batched_inputs)

    def _normalise(self, image: Tensor) -> Tensor:
        image = (image.to(self.pixel_mean.device) - self.pixel_mean) / self.pixel_std
        divisibility = getattr(self.backbone, "size_divisibility", 0)  # type: ignore[attr-defined]
        return ImageList.from_tensors([image], divisibility).tensor

    def _exchange(self, module: nn.Module, args: tuple) -> tuple | None:
        if self._frames is None:
            return None
        frames, self._frames = self._frames, None
        batch, *others = args
        exchanged = batch.new_zeros(len(frames), *batch.shape[1:])
        for place, frame in zip(exchanged, frames, strict=True):
            height, width = frame.shape[-2:]
            place[:, :height, :width] = (frame.to(batch.device) - self.pixel_mean) / self.pixel_std
        return (exchanged, *others)


# What instances of the base must have.
_NEEDS = {VideoMixin: ["backbone"], InlineVideoMixin: ["backbone", "pixel_mean", "pixel_std"]}


def make_video_arch(base: type[nn.Module], name: str = "") -> type[nn.Module]:
    """Make a video meta-architecture of a plain one and register it.

    Args:
        base: a meta-architecture whose `forward` passes the images once through `self.backbone`.
            They come from its method `preprocess_image`, or are normalised in `forward` with
            its `pixel_mean` and `pixel_std`. Only to be built from a config it also needs
            `from_config`, with `backbone` among the arguments that this returns.
        name: of the new class; "Video" and the base's name if left out.

    Returns:
        The new class. Its state dict has the plain detector's names plus those under `temporal`.
        Its constructor takes the base's arguments by keyword and `temporal`, or a config.

    Raises:
        TypeError: if `base` is no module with a `forward` of its own; when it is built, if an
            attribute is missing.
    """
    if not issubclass(base, nn.Module) or base.forward is nn.Module.forward:
        raise TypeError(
            f"{base.__name__} cannot be made a video detector: it has to be a torch module with a "
            "forward that calls self.backbone"
        )
    mixin = VideoMixin if callable(getattr(base, "preprocess_image", None)) else InlineVideoMixin

    def __init__(
        self, *, temporal: TemporalAggregation, freeze_detector: bool = False, **kwargs: Any
    ) -> None:
        base.__init__(self, **kwargs)
        missing = [attribute for attribute in _NEEDS[mixin] if not hasattr(self, attribute)]
        if missing:
            raise TypeError(f"{base.__name__} cannot be made a video detector: no {missing[0]}")
        self.attach(temporal, freeze_detector=freeze_detector)

    name = name or f"Video{base.__name__}"
    doc = f"`{base.__name__}` on features aggregated over time; see `{mixin.__name__}`."
    attributes = {"__init__": configurable(__init__), "__doc__": doc, "__module__": __name__}
    cls = type(name, (mixin, base), attributes)
    META_ARCH_REGISTRY.register(cls)
    return cls


VideoGeneralizedRCNN = make_video_arch(GeneralizedRCNN)
VideoPanopticFPN = make_video_arch(PanopticFPN)
VideoProposalNetwork = make_video_arch(ProposalNetwork)
VideoRetinaNet = make_video_arch(RetinaNet)
VideoFCOS = make_video_arch(ConfigurableFCOS, "VideoFCOS")
VideoSemanticSegmentor = make_video_arch(SemanticSegmentor)
