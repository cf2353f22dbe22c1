"""Whether the streams of a predictor fit into memory, and what would make them fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from iff_detectron2.modeling.frame_memory import FrameMemory
from iff_detectron2.modeling.seam import VideoMixin
from iff_detectron2.structures import TemporalWindow

from .memory_plan import GIB, MemoryPlan, available_memory, check_fits, plan_memory


@dataclass(frozen=True)
class StreamSettings:
    """What the memory of a stream depends on, beside the model and the size of its frames.

    Attributes:
        window: of the stream.
        memory: an empty memory of its type and on its device.
        pairs_per_chunk: as TEST.VIDEO.PAIRS_PER_CHUNK.
        precision: makes the context in which the model runs.
        streams: how many there are at once.
    """

    window: TemporalWindow
    memory: FrameMemory
    pairs_per_chunk: int
    precision: Callable[[], AbstractContextManager]
    streams: int = 1


def plan_stream(
    model: nn.Module, image_shape: tuple[int, ...], settings: StreamSettings
) -> MemoryPlan:
    """Plan the memory of streams; arguments are those of `plan_memory`."""
    plan = plan_memory(
        model,
        image_shape,
        settings.window,
        memory=settings.memory,
        pairs_per_chunk=settings.pairs_per_chunk,
        precision=settings.precision,
    )
    # The backbone works on all of them at a time. Pairs are fused stream by stream, so where that
    # is the peak this is too much rather than too little.
    count = settings.streams
    return replace(plan, frames=count * plan.frames, working=count * plan.working)


def check_stream(
    model: nn.Module, image_shape: tuple[int, ...], settings: StreamSettings, limit: float = 0.0
) -> MemoryPlan:
    """Plan the memory of streams and refuse what does not fit.

    Args:
        model: the detector.
        image_shape: of the image that the detector is given: channels, height, width.
        settings: of the streams.
        limit: GiB that may be used; 0 for what the device has free.

    Raises:
        ValueError: if it does not fit; the message says which settings would.
    """
    plan = plan_stream(model, image_shape, settings)
    device = plan.device.type
    if limit:
        limits = {device: round(limit * GIB)}
    else:
        free = {kind: available_memory(torch.device(kind)) for kind in {device, "cpu"}}
        limits = {kind: room for kind, room in free.items() if room is not None}
        if device in limits:
            limits[device] += plan.weights  # they are there already
    alternatives = {}
    if isinstance(model, VideoMixin) and settings.window.num_refs:
        alternatives = {
            what: partial(plan_stream, model, image_shape, other)
            for what, other in _smaller(settings, device).items()
        }
    check_fits(plan, limits, alternatives)
    return plan


def _smaller(settings: StreamSettings, device: str) -> dict[str, StreamSettings]:
    """Return settings that take less memory, by what one has to set for them."""
    window, memory = settings.window, settings.memory
    small, host = FrameMemory(torch.bfloat16, memory.device), FrameMemory(memory.dtype, "cpu")
    half = replace(window, num_refs=window.num_refs // 4 * 2)
    choices = {
        "TEST.VIDEO.PAIRS_PER_CHUNK 4": replace(settings, pairs_per_chunk=4),
        "TEST.VIDEO.MEMORY_DTYPE bfloat16": replace(settings, memory=small),
        "both of these (chunks and bfloat16)": replace(settings, memory=small, pairs_per_chunk=4),
        f"TEST.VIDEO.NUM_REFS {half.num_refs}": replace(settings, window=half),
    }
    if device != "cpu":
        choices["TEST.VIDEO.MEMORY_DEVICE cpu"] = replace(settings, memory=host)
    if settings.streams > 1:
        choices["one stream at a time"] = replace(settings, streams=1)
    return choices
