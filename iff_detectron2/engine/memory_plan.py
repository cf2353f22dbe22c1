"""How much memory a stream will take, found by running one step of it on tensors without data."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from iff_detectron2.modeling.frame_memory import FrameMemory
from iff_detectron2.modeling.seam import VideoMixin, image_backbone, run_to_backbone
from iff_detectron2.modeling.video_pass import FusionRequest
from iff_detectron2.structures import TemporalWindow

GIB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """Expected memory of a stream in bytes, at its peak.

    Attributes:
        frames: frames that the memory holds.
        per_frame: bytes of the codes of one frame, as the memory keeps them.
        weights: parameters and buffers of the model.
        working: what comes on top while a frame is computed: activations of the backbone, or the
            reference frames that are fused at a time and what the operators make of them.
        device: where the model computes.
        memory_device: where the memory is.
    """

    frames: int
    per_frame: int
    weights: int
    working: int
    device: torch.device
    memory_device: torch.device

    @property
    def memory(self) -> int:
        """Bytes of the frame memory."""
        return self.frames * self.per_frame

    @property
    def on_device(self) -> int:
        """Bytes at the peak where the model computes."""
        here = self.memory if self.memory_device.type == self.device.type else 0
        return self.weights + self.working + here

    def __str__(self) -> str:
        return (
            f"expected peak {_gib(self.on_device)} on {self.device.type}: weights "
            f"{_gib(self.weights)}, frame memory {_gib(self.memory)} on {self.memory_device.type} "
            f"({self.frames} frames of {self.per_frame / 2**20:.1f} MiB), working "
            f"{_gib(self.working)}"
        )


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that come into being under it, by kind of device."""

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._count(x)
        return out

    def _count(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        if storage in self._seen:
            return
        self._seen.add(storage)
        device, size = x.device.type, storage.nbytes()
        self.live[device] += size
        self.peak[device] = max(self.peak[device], self.live[device])
        weakref.finalize(storage, self.live.subtract, {device: size}).atexit = False


def plan_memory(
    model: nn.Module,
    image_shape: tuple[int, ...],
    window: TemporalWindow,
    *,
    memory: FrameMemory | None = None,
    pairs_per_chunk: int = 0,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> MemoryPlan:
    """Plan the memory of a stream; nothing of that size is allocated for it.

    The backbone, the encoders and the fusion run on tensors that have a shape and no data. Heads
    are left out: they run when the reference frames are freed again. So is what a library's
    convolution or an allocator takes for itself.

    Args:
        model: the detector, with or without a temporal part.
        image_shape: of the image that the detector is given: channels, height, width.
        window: the window of the stream.
        memory: an empty memory of the type and on the device that will be used.
        pairs_per_chunk: as TEST.VIDEO.PAIRS_PER_CHUNK.
        precision: makes the context in which the model runs.
    """
    device = next(model.parameters()).device
    weights = sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))
    sample = {"image": torch.zeros(image_shape, dtype=torch.uint8)}
    if not isinstance(model, VideoMixin):
        working = _plain_peak(model, sample, precision)[device.type]
        return MemoryPlan(0, 0, weights, working, device, device)
    temporal, backbone = model.temporal, cast(Any, model.image_backbone)
    memory = FrameMemory() if memory is None else memory
    stored = FrameMemory(memory.dtype, memory.device)
    with torch.no_grad(), precision():
        call = model.prepare([sample])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), precision(), Peak() as count:
        call = call.without_data()
        with temporal.stream(stored, window, pairs_per_chunk):
            features = backbone(*call.args, **call.kwargs)
            for frame in range(window.span):
                if frame == window.span - 1:
                    # Once more, now that the memory is full but for this frame.
                    features = backbone(*call.args, **call.kwargs)
                place = {"video_id": "plan", "frame_index": frame}
                temporal.observe([{**sample, **place}], features, call.images)
            del features
            per_frame = stored.nbytes() // window.span
            key = window.span - 1 - window.lookahead
            request = FusionRequest(key, window.frames(key, window.span), [], stored)
            temporal.fuse_one(request, stored.branch(0))
    where = torch.device(memory.device) if memory.device is not None else device
    on_same = where.type == device.type
    working = count.peak[device.type] - (window.span * per_frame if on_same else 0)
    # The operators lay one frame after the other pixel by pixel, in float32.
    scratch = sum(x.numel() * 4 for level in stored.gather([key]).values() for x in level.values())
    return MemoryPlan(window.span, per_frame, weights, working + scratch, device, where)


def _plain_peak(
    model: nn.Module, sample: dict, precision: Callable[[], AbstractContextManager]
) -> Counter[str]:
    """Return the working memory of a plain detector, by kind of device."""
    try:
        backbone = image_backbone(model)
    except TypeError:
        # Where its parts are not known it is run once as a whole.
        with torch.no_grad(), precision(), Peak() as count:
            model([sample])
        return count.peak
    with torch.no_grad(), precision():
        call = run_to_backbone(model.forward, backbone, [sample])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), precision(), Peak() as count:
        call = call.without_data()
        backbone(*call.args, **call.kwargs)
    return count.peak


def available_memory(device: torch.device) -> int | None:
    """Bytes that a device can still give; None where that cannot be found out."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def check_fits(
    plan: MemoryPlan,
    limits: Mapping[str, int],
    alternatives: Mapping[str, Callable[[], MemoryPlan]],
) -> None:
    """Refuse a plan that does not fit, and says what would.

    Args:
        plan: the plan.
        limits: bytes that may be used, by kind of device, the weights included.
        alternatives: make plans of other settings, by what one has to set for them.

    Raises:
        ValueError: if the plan needs more than a limit.
    """
    if _fits(plan, limits):
        return
    room = ", ".join(f"{_gib(limit)} on {device}" for device, limit in limits.items())
    helpful = [what for what, other in alternatives.items() if _fits(other(), limits)]
    advice = (
        f"it would fit with {' or '.join(helpful)}"
        if helpful
        else (
            "no single setting makes it fit: use a smaller INPUT.MIN_SIZE_TEST and "
            "INPUT.MAX_SIZE_TEST, and combine " + ", ".join(alternatives)
        )
    )
    raise ValueError(f"this video does not fit into memory ({room}): {plan}; {advice}")


def _fits(plan: MemoryPlan, limits: Mapping[str, int]) -> bool:
    needs = {plan.device.type: plan.on_device}
    if plan.memory_device.type != plan.device.type:
        needs[plan.memory_device.type] = plan.memory
    return all(need <= limits.get(device, need) for device, need in needs.items())
