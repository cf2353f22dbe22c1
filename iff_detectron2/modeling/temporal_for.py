"""The temporal part for the maps of whatever backbone, with the keys of MODEL.IFF and no config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec

from iff_detectron2.config import add_iff_config
from iff_detectron2.structures import TemporalWindow

from .temporal import TemporalAggregation


def temporal_for(
    window: TemporalWindow | None = None, options: Mapping[str, Any] | None = None
) -> Callable[[Mapping[str, ShapeSpec]], TemporalAggregation]:
    """Return a function that makes the temporal part for a backbone's `output_shape()`.

    A video detector takes it as `temporal`, and calls it with the maps of its backbone, so that no
    width is written by hand: `temporal=L(temporal_for)(options={"FLOW.LEVEL": "p4"})`.

    Args:
        window: the window of testing; that of TEST.VIDEO's defaults if left out.
        options: keys of MODEL.IFF and their values, as `FLOW.CHANNELS`.

    Raises:
        KeyError: there is no such key.
        ValueError: a value is not of its kind.
    """
    cfg = get_cfg()
    add_iff_config(cfg)
    known = {f"MODEL.IFF.{key}": value for key, value in (options or {}).items()}
    try:
        cfg.merge_from_list([part for item in known.items() for part in item])
    except AssertionError as error:
        raise KeyError(f"a key of {', '.join(known)} does not exist: {error}") from error
    if window is not None:
        video = cfg.TEST.VIDEO
        video.NUM_REFS, video.STRIDE, video.CAUSAL = window.num_refs, window.stride, window.causal

    def make(output_shape: Mapping[str, ShapeSpec]) -> TemporalAggregation:
        return TemporalAggregation(cfg, dict(output_shape))

    return make
