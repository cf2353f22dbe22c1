"""The seam between a detector that knows nothing of video and its backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_map_only
from torchvision.ops import StochasticDepth

from .frame_memory import WeightsMark
from .temporal import TemporalAggregation
from .video_pass import VideoPass


@dataclass(frozen=True)
class BackboneCall:
    """What a detector gives its backbone."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def images(self) -> Tensor:
        """The batch of images, [N, 3, H, W]."""
        for given in (*self.args, *self.kwargs.values()):
            # ImageList and NestedTensor hold their batch under these names.
            for batch in (given, getattr(given, "tensor", None), getattr(given, "tensors", None)):
                if isinstance(batch, Tensor) and batch.dim() == 4:
                    return batch
        kinds = [type(given).__name__ for given in (*self.args, *self.kwargs.values())]
        raise TypeError(f"the backbone is given no batch of images, but {', '.join(kinds)}")

    def without_data(self) -> BackboneCall:
        """Return the same with tensors of the same kind whose values are not set."""
        args, kwargs = tree_map_only(Tensor, torch.empty_like, (self.args, self.kwargs))
        return BackboneCall(args, kwargs)


class _Reached(BaseException):
    """Ends a pass in front of the backbone. No `except Exception` of a detector may hold it up."""

    def __init__(self, call: BackboneCall) -> None:
        self.call = call


@contextmanager
def in_place_of(backbone: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module run another `forward` than its own."""
    own = vars(backbone).get("forward")  # a compiled one, for example
    backbone.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del backbone.forward
        else:
            backbone.forward = own  # type: ignore[method-assign]


def run_to_backbone(
    forward: Callable[[list[dict]], Any], backbone: nn.Module, samples: list[dict]
) -> BackboneCall:
    """Run a detector on samples up to its backbone, so that it prepares images as it always does.

    Args:
        forward: of the detector.
        backbone: its backbone, which is not run.
        samples: one dict per image, as the detector takes them.

    Raises:
        TypeError: if the detector ends without its backbone.
    """

    def reached(*args: Any, **kwargs: Any) -> None:
        raise _Reached(BackboneCall(args, kwargs))

    with in_place_of(backbone, reached):
        try:
            forward(samples)
        except _Reached as end:
            return end.call
    raise TypeError(
        f"{getattr(forward, '__qualname__', forward)} does not call the backbone "
        f"{type(backbone).__name__}: name the module that makes the feature maps, "
        "make_video_arch(..., backbone='path.to.it')"
    )


def backbone_path(model: nn.Module, path: str = "") -> str:
    """Return where in a detector the backbone is.

    Args:
        model: the detector.
        path: where to look, as for `get_submodule`; empty for `model.backbone`, or else the one
            outermost Detectron2 `Backbone` among the modules.

    Raises:
        TypeError: if there is none, or several.
    """
    refused = f"{type(model).__name__} cannot be made a video detector: no backbone"
    if path:
        try:
            model.get_submodule(path)
        except AttributeError as error:
            raise TypeError(f"{refused} at {path!r} ({error})") from error
        return path
    if isinstance(getattr(model, "backbone", None), nn.Module):
        return "backbone"
    found = [name for name, module in model.named_modules() if isinstance(module, Backbone)]
    outer = [n for n in found if not any(n.startswith(f"{other}.") for other in found)]
    if len(outer) == 1:
        return outer[0]
    which = f" among {', '.join(outer)} alone" if outer else ""
    raise TypeError(
        f"{refused}{which}; name the module that makes the feature maps, "
        "make_video_arch(..., backbone='path.to.it')"
    )


def image_backbone(model: nn.Module) -> nn.Module:
    """Return the module of a detector, plain or video, that makes its feature maps.

    Raises:
        TypeError: if it cannot be told.
    """
    if isinstance(model, VideoMixin):
        return model.image_backbone
    return model.get_submodule(backbone_path(model))


def _check_maps(features: Any, count: int, branches: bool) -> None:
    """Refuse feature maps that cannot be assigned to images."""
    if not isinstance(features, Mapping):
        raise TypeError(
            f"the backbone returns a {type(features).__name__}; aggregation needs a dict of "
            "feature maps by name"
        )
    for name, x in features.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"feature map {name!r} of the backbone is a {type(x).__name__}")
    counts = {name: len(x) for name, x in features.items()}
    several = branches and len({*counts.values()}) == 1
    for name, n in counts.items():
        if n != count and not (several and n and n % count == 0):
            advice = (
                ""
                if branches or n % count
                else "; if they are those of all images branch by "
                "branch, as torch.cat lays them, say make_video_arch(..., branches=True)"
            )
            raise TypeError(
                f"feature map {name!r} of the backbone has {n} samples for {count} images; "
                f"which belong to which image cannot be known{advice}"
            )


class VideoMixin(nn.Module):
    """Puts temporal aggregation between the backbone of a detector and its heads.

    The detector prepares its key frames as always, and calls its backbone once. There the batch of
    key frames is exchanged for that of the frames that are new to the window, and their maps for
    those of the key frames, so that heads, losses and post-processing see key frames only. The new
    frames were prepared by the detector, too: its own `forward` was run on them up to the backbone.
    So nothing is assumed of how it normalises, pads and batches, of its outputs, and of how it is
    constructed. With no new frame, as at the end of a video, the backbone is not run at all.
    """

    temporal: TemporalAggregation
    _backbone_path = "backbone"
    _branches = False
    _freezes_detector = False
    # While a pass is going on: `forward` may call `inference`, which then belongs to it.
    _passes = False

    def attach(
        self,
        temporal: TemporalAggregation,
        *,
        freeze_detector: bool = False,
        backbone: str = "",
        branches: bool = False,
    ) -> None:
        """Put `temporal` behind the backbone; called once, at the end of the constructor.

        Args:
            temporal: the temporal part.
            freeze_detector: everything but `temporal` keeps its weights, and stays in evaluation
                mode where it normalises or drops at random.
            backbone: where the backbone is, as for `backbone_path`.
            branches: it may make several maps per image, as for `make_video_arch`.
        """
        self._backbone_path = backbone_path(self, backbone)
        self._branches = branches
        self._freezes_detector = freeze_detector
        if freeze_detector:
            for parameter in self.parameters():
                parameter.requires_grad_(False)
        output_shape = getattr(self.image_backbone, "output_shape", None)
        if output_shape is not None:
            temporal.take_strides(output_shape())
        self.temporal = temporal
        self.train(self.training)

    @property
    def image_backbone(self) -> nn.Module:
        """The module whose feature maps are aggregated."""
        return self.get_submodule(self._backbone_path)

    def train(self, mode: bool = True):
        super().train(mode)
        if mode and self._freezes_detector:
            # The parts themselves stay in training mode, in which they compute losses.
            for name, module in self.named_modules():
                if not name.startswith("temporal.") and _varies_in_training(module):
                    module.eval()
        return self

    def forward(self, batched_inputs: list[dict], *args: Any, **kwargs: Any):
        """Return the plain detector's output for the key frames, in training with `loss_trl`.

        Args:
            batched_inputs: samples of `VIDDatasetMapper`: `image`, and for videos `ref_images`,
                `ref_offsets`, `video_id`, `frame_index`, `video_length`.
            args, kwargs: what else the plain detector takes.
        """
        method = super().forward
        output = self._over_time(method, batched_inputs, *args, **kwargs)
        return self._with_losses(output) if self.training else output

    def _over_time(self, method: Callable[..., Any], batched_inputs, *args: Any, **kwargs: Any):
        """Run a method of the plain detector that takes samples through its backbone."""
        if self._passes:
            return method(batched_inputs, *args, **kwargs)
        plan = self.temporal.plan(batched_inputs, self._mark)
        with self.temporal.running(plan):
            prepared = None
            if plan.samples and not plan.key_frames_only:
                prepared = self.prepare(plan.samples)
            with self._backbone_as(
                partial(self._fuse, plan, self.image_backbone.forward, prepared)
            ):
                output = method(batched_inputs, *args, **kwargs)
            if not plan.fused:
                raise TypeError(
                    f"{type(self).__name__} does not call its backbone {self._backbone_path!r}"
                )
        return output

    def _fuse(
        self,
        plan: VideoPass,
        backbone: Callable[..., Any],
        prepared: BackboneCall | None,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Stand in for the backbone in a pass: from the batch of key frames to their fused maps.

        Args:
            plan: the pass.
            backbone: the backbone's own `forward`.
            prepared: the batch of new frames; None where it is that of the key frames.
            args, kwargs: what the detector gives the backbone.
        """
        if plan.fused:
            raise TypeError(f"{type(self).__name__} calls its backbone more than once for a batch")
        if not plan.samples:
            return self.temporal.fuse(plan, {}, None)
        call = BackboneCall(args, kwargs) if prepared is None else prepared
        features = backbone(*call.args, **call.kwargs)
        _check_maps(features, len(plan.samples), self._branches)
        return self.temporal.fuse(plan, features, call.images)

    @contextmanager
    def _backbone_as(self, forward: Callable[..., Any]) -> Iterator[None]:
        self._passes = True
        try:
            with in_place_of(self.image_backbone, forward):
                yield
        finally:
            self._passes = False

    def prepare(self, samples: list[dict]) -> BackboneCall:
        """Return what the plain detector gives its backbone for samples, which is not run."""
        self._passes = True
        try:
            method = super().forward
            return run_to_backbone(method, self.image_backbone, samples)
        finally:
            self._passes = False

    def _mark(self) -> WeightsMark:
        return WeightsMark(self)

    def _with_losses(self, output: Any) -> dict[str, Tensor]:
        losses = self.temporal.pop_losses()
        if isinstance(output, Tensor):
            return {"total_loss": output, **losses}
        if not isinstance(output, Mapping):
            raise TypeError(
                f"in training {type(self).__name__} returns a {type(output).__name__}; the losses "
                "of the alignment can only be added to a dict of losses, or one loss"
            )
        return {**output, **losses}

    def frame_maps(self, samples: list[dict]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the backbone's maps of frames, which the plain detector prepares.

        Args:
            samples: each with its `image`, and whatever else the detector looks for.

        Returns:
            The maps by name, [N, C, H, W], and the batch that the backbone saw, [N, 3, H', W'].
        """
        call = self.prepare(samples)
        features = self.image_backbone(*call.args, **call.kwargs)
        _check_maps(features, len(samples), self._branches)
        return features, call.images

    def observe(self, *samples: dict) -> None:
        """Encode the next frame of each stream and keep it, ahead of its turn as key frame.

        Args:
            samples: `image`, `video_id`, `frame_index` and `video_length`, as for `forward`.
        """
        self.temporal.observe(samples, *self.frame_maps([*samples]), self._mark)

    def reset(self) -> None:
        """Forget the stream: the next frame starts a new video."""
        self.temporal.reset()


def _varies_in_training(module: nn.Module) -> bool:
    """Whether a module computes something else in training mode: it normalises, or drops."""
    # Each library has a DropPath of its own, with no base in common.
    by_name = type(module).__name__ == "DropPath"
    return by_name or isinstance(module, _NormBase | _DropoutNd | StochasticDepth)
