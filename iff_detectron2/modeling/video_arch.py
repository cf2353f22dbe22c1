"""Makes a video detector of any Detectron2 meta-architecture, with its weights' names unchanged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    PanopticFPN,
    ProposalNetwork,
    RetinaNet,
    SemanticSegmentor,
)
from torch import nn

from .fcos import ConfigurableFCOS
from .seam import VideoMixin, backbone_path
from .temporal import TemporalAggregation

# Makes the temporal part for the maps of a backbone, as `temporal_for` returns it.
MakeTemporal = Callable[[Mapping[str, ShapeSpec]], TemporalAggregation]


def make_video_arch(
    base: type[nn.Module], name: str = "", backbone: str = "", *, branches: bool = False
) -> type[nn.Module]:
    """Make a video meta-architecture of a plain one and register it.

    Args:
        base: a meta-architecture whose `forward` takes a list of samples, each with its `image`,
            and passes their images once through a backbone, which returns a dict of feature maps.
        name: of the new class; "Video" and the base's name if left out.
        backbone: where in the detector the backbone is, such as `detr.backbone.0.backbone`; if
            left out, `self.backbone`, or else the one outermost Detectron2 `Backbone` in it.
        branches: the backbone may make several maps of each kind per image, and lays those of its
            first branch for all images in front of those of its second, and so on, as TridentNet's
            does; each branch is aggregated by itself.

    Returns:
        The new class; the same one where it was made before. Its state dict has the plain
        detector's names plus those under `temporal`. It is constructed as `base` is. From a config
        its temporal part is built by the keys of MODEL.IFF; else it is given: `temporal`, the
        part itself or what `temporal_for` returns, and optionally `freeze_detector`, by keyword
        beside the arguments of `base`.

    Raises:
        TypeError: if `base` is no module with a `forward` of its own, or a video detector already.
        ValueError: if another class is registered under the name.
    """
    if not issubclass(base, nn.Module) or base.forward is nn.Module.forward:
        raise TypeError(
            f"{base.__name__} cannot be made a video detector: it has to be a torch module with a "
            "forward that calls a backbone"
        )
    if issubclass(base, VideoMixin):
        raise TypeError(f"{base.__name__} is a video detector already")
    name = name or f"Video{base.__name__}"
    made_of = (base, backbone, branches)
    if name in META_ARCH_REGISTRY:
        registered = META_ARCH_REGISTRY.get(name)
        if vars(registered).get("_made_of") == made_of:
            return registered
        raise ValueError(
            f"the name {name} is taken by another meta-architecture of module "
            f"{registered.__module__}: choose one, as in make_video_arch({base.__name__}, 'Mine')"
        )

    def __init__(
        self,
        *args: Any,
        temporal: TemporalAggregation | MakeTemporal | None = None,
        freeze_detector: bool | None = None,
        **kwargs: Any,
    ) -> None:
        base.__init__(self, *args, **kwargs)
        cfg = _config_of(args, kwargs)
        if temporal is None:
            temporal = _build_temporal(self, cfg, backbone)
        elif not isinstance(temporal, nn.Module):
            temporal = temporal(_maps_of(self, backbone))
        if freeze_detector is None:
            freeze_detector = cfg is not None and cfg.MODEL.IFF.FREEZE_DETECTOR
        self.attach(temporal, freeze_detector=freeze_detector, backbone=backbone, branches=branches)

    attributes: dict[str, Any] = {
        "__init__": __init__,
        "__doc__": f"`{base.__name__}` on features aggregated over time; see `VideoMixin`.",
        # That of the caller, who keeps the class under its name: so it can be pickled.
        "__module__": sys._getframe(1).f_globals.get("__name__", __name__),
        "_made_of": made_of,
    }
    if hasattr(base, "inference"):
        # Called without `forward` by Detectron2's test-time augmentation and others.
        def inference(self, batched_inputs: list[dict], *args: Any, **kwargs: Any):
            method = base.inference.__get__(self)  # type: ignore[attr-defined]
            return self._over_time(method, batched_inputs, *args, **kwargs)

        attributes["inference"] = inference
    cls = type(name, (VideoMixin, base), attributes)
    META_ARCH_REGISTRY.register(cls)
    return cls


def _config_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> CfgNode | None:
    """Return the config among the arguments of a constructor."""
    given = [*args[:1], kwargs.get("cfg")]
    return next((value for value in given if isinstance(value, CfgNode)), None)


def _build_temporal(model: nn.Module, cfg: CfgNode | None, backbone: str) -> TemporalAggregation:
    """Build the temporal part by the keys of a config, for the maps that a backbone makes."""
    name = type(model).__name__
    if cfg is None:
        raise TypeError(
            f"{name} needs temporal=TemporalAggregation(...), since it is not built from a config"
        )
    if "IFF" not in cfg.MODEL:
        raise TypeError(
            f"{name} cannot be built from a config without MODEL.IFF: call "
            "iff_detectron2.add_iff_config(cfg) before it is read"
        )
    return TemporalAggregation(cfg, _maps_of(model, backbone))


def _maps_of(model: nn.Module, backbone: str) -> dict[str, ShapeSpec]:
    """Return the shapes of the maps that a detector's backbone makes."""
    name = type(model).__name__
    module = model.get_submodule(backbone_path(model, backbone))
    if not hasattr(module, "output_shape"):
        raise TypeError(
            f"the backbone of {name}, {type(module).__name__}, has no output_shape(): give "
            f"{name} temporal=TemporalAggregation(...) with the widths of its feature maps"
        )
    return cast(Any, module).output_shape()


VideoGeneralizedRCNN = make_video_arch(GeneralizedRCNN)
VideoPanopticFPN = make_video_arch(PanopticFPN)
VideoProposalNetwork = make_video_arch(ProposalNetwork)
VideoRetinaNet = make_video_arch(RetinaNet)
VideoFCOS = make_video_arch(ConfigurableFCOS, "VideoFCOS")
VideoSemanticSegmentor = make_video_arch(SemanticSegmentor)
