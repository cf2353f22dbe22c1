"""Video in, boxes out: a detector that is fed one frame after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.modeling.frame_memory import FrameMemory, build_frame_memory
from iff_detectron2.modeling.seam import VideoMixin
from iff_detectron2.structures import TemporalWindow
from iff_detectron2.structures.image import check_bgr_image
from iff_detectron2.video.read_ahead import read_ahead

from .acceleration import compile_frame_part, mixed_precision, prepare_for_inference
from .checkpoint import VideoCheckpointer
from .detector_output import OnItsWay, instances_of, named_output
from .lazy_config import build_lazy_model, lazy_of, yacs_of
from .memory_plan import GIB, MemoryPlan, available_memory, check_fits, plan_memory
from .missing_weights import needed_weights
from .ready_frame import ReadyFrame

ON_SIZE_CHANGE = ("error", "reset")
AMP_TYPES = {"": None, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Frames between a frame that is done and the one with which its results are handed out late: as the
# GPU works on the next frame meanwhile, nobody waits for the copy. A CPU has nothing to wait for.
_LATE = {"cuda": 1}

# Names of videos, so that a frame memory never takes one for another.
_RUNS = count()

Results = list[tuple[int, Instances]]
Outputs = list[tuple[int, dict[str, Any]]]


def load_model(cfg) -> nn.Module:
    """Build the model of a config with MODEL.WEIGHTS, for inference alone.

    Raises:
        FileNotFoundError, ValueError: if the weights are missing or of another model.
    """
    lazy = lazy_of(cfg)
    model = build_model(cfg) if lazy is None else build_lazy_model(lazy)
    needs = needed_weights(cfg, training=False)
    VideoCheckpointer(model, needs=needs).load(cfg.MODEL.WEIGHTS)
    return prepare_for_inference(model)


@dataclass
class _Frame:
    """A frame that waits for its turn as key frame; `index` counts from the start of its part."""

    index: int
    image: torch.Tensor
    height: int
    width: int


# Index of a frame, its height and width, and what the detector gives for it.
_Output = tuple[int, tuple[int, int], dict[str, Any]]
_Coming = tuple[int, tuple[int, int], OnItsWay]
T = TypeVar("T")


class VideoPredictor:
    """Detects in a video whose frames come one at a time, each computed once.

    A window that looks ahead gives the result of a frame when the last frame of its window has
    come; a causal one at once. The length of the video need not be known: windows are clamped at
    its end when `flush` says that this is the end. What is kept is bounded by the window: the
    codes of its frames, and the network's input of those that wait for their result.

    Detectors may give other things than `instances`: `push_outputs`, `flush_outputs` and `outputs`
    return all that they give.

    Plain detectors work too: each frame alone, without delay. Predictors may share one model and
    take turns, since each has a frame memory of its own; they must not run at the same time.
    """

    def __init__(self, cfg, model: nn.Module | None = None) -> None:
        """
        Args:
            cfg: config; window, memory, precision and the rest are under TEST.VIDEO.
            model: the model of this config, to share it; it is put into evaluation mode and
                otherwise stays as it is. Without one it is built, MODEL.WEIGHTS loaded, and made
                fast (`engine.acceleration.prepare_for_inference`).

        Raises:
            ValueError: for a choice under TEST.VIDEO that does not exist, and for a detector that
                is given proposals with its images.
        """
        cfg = yacs_of(cfg)
        if cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError(
                "MODEL.LOAD_PROPOSALS is True, but a video brings no proposals: use a detector "
                "that makes its own, as Faster R-CNN instead of Fast R-CNN"
            )
        video = cfg.TEST.VIDEO
        for key, value, known in (
            ("ON_SIZE_CHANGE", video.ON_SIZE_CHANGE, ON_SIZE_CHANGE),
            ("AMP", video.AMP, tuple(AMP_TYPES)),
        ):
            if value not in known:
                names = ", ".join(repr(name) for name in known)
                raise ValueError(f"TEST.VIDEO.{key} must be one of {names}, got {value!r}")
        self._to_input = NetworkInput(cfg)
        self.model = load_model(cfg) if model is None else model.eval()
        if video.COMPILE:
            compile_frame_part(self.model)
        self.window = TemporalWindow(0)
        self.device = next(self.model.parameters()).device
        self.temporal = self.model.temporal if isinstance(self.model, VideoMixin) else None
        if self.temporal is not None:
            self.window = TemporalWindow.from_config(cfg)
        self.pairs_per_chunk: int = video.PAIRS_PER_CHUNK
        self.memory_limit: float = video.MEMORY_LIMIT
        self.on_size_change: str = video.ON_SIZE_CHANGE
        self.amp_type = AMP_TYPES[video.AMP]
        self.memory = build_frame_memory(cfg)
        self.reset()

    def reset(self, first_frame: int = 0, first_result: int = 0, *, late: bool = False) -> None:
        """Forget the video; the next frame pushed starts another.

        Args:
            first_frame: index of the next frame, to go on in the middle of a video.
            first_result: results start with this frame; those before it are only looked at. With
                `first_frame = replay_from(first_result)` the results are those of a run from the
                start.
            late: on a GPU, hand each result out with the next frame that is pushed, so that nothing
                waits for its copy; for videos, where a frame of delay does not matter.
        """
        self._first_frame, self._first_result = first_frame, first_result
        self._held_back = _LATE.get(self.device.type, 0) if late else 0
        self._coming: tuple[_Coming, ...] = ()
        self._run = next(_RUNS)
        self._forget_part()

    def replay_from(self, frame_index: int) -> int:
        """Return the first frame that must be seen again for results from `frame_index` on."""
        return max(frame_index - self._reach_back, 0)

    @property
    def delay(self) -> int:
        """Number of frames that come between a frame and its result."""
        return self.window.lookahead + self._held_back

    @property
    def _reach_back(self) -> int:
        return -min((0, *self.window.offsets))

    def plan(self, height: int, width: int) -> MemoryPlan:
        """Return the memory that frames of this size will take."""
        image = self._to_input(np.zeros((height, width, 3), np.uint8))
        return self._plan(image, self.window, self.memory, self.pairs_per_chunk)

    def _plan(
        self, image: torch.Tensor, window: TemporalWindow, memory: FrameMemory, chunk: int
    ) -> MemoryPlan:
        return plan_memory(
            self.model,
            tuple(image.shape),
            window,
            memory=memory,
            pairs_per_chunk=chunk,
            precision=self._precision,
        )

    def check_memory(self, height: int, width: int) -> MemoryPlan:
        """Plan the memory for frames of this size.

        The limit is TEST.VIDEO.MEMORY_LIMIT, or else what the device has free.

        Raises:
            ValueError: if it does not fit; the message says which settings would.
        """
        plan = self.plan(height, width)
        device = self.device.type
        if self.memory_limit:
            limits = {device: round(self.memory_limit * GIB)}
        else:
            free = {kind: available_memory(torch.device(kind)) for kind in {device, "cpu"}}
            limits = {kind: room for kind, room in free.items() if room is not None}
            if device in limits:
                limits[device] += plan.weights  # they are there already
        alternatives = {}
        if self.temporal is not None and self.window.num_refs:
            image = self._to_input(np.zeros((height, width, 3), np.uint8))
            small, chunk = FrameMemory(torch.bfloat16, self.memory.device), 4
            half = replace(self.window, num_refs=self.window.num_refs // 4 * 2)
            choices = {
                "TEST.VIDEO.PAIRS_PER_CHUNK 4": (self.window, self.memory, chunk),
                "TEST.VIDEO.MEMORY_DTYPE bfloat16": (self.window, small, self.pairs_per_chunk),
                "both of these (chunks and bfloat16)": (self.window, small, chunk),
                f"TEST.VIDEO.NUM_REFS {half.num_refs}": (half, self.memory, self.pairs_per_chunk),
            }
            if device != "cpu":
                host = FrameMemory(self.memory.dtype, "cpu")
                choices["TEST.VIDEO.MEMORY_DEVICE cpu"] = (self.window, host, self.pairs_per_chunk)
            alternatives = {what: partial(self._plan, image, *c) for what, c in choices.items()}
        check_fits(plan, limits, alternatives)
        return plan

    def _forget_part(self) -> None:
        """Start a part: the frames between two changes of size, which is a video to the model."""
        self.memory.clear()
        self._video_id = f"stream {next(_RUNS)}"
        self._received = 0
        self._size: tuple[int, int] | None = None
        self._waiting: deque[_Frame] = deque()

    def prepare(self, frame: np.ndarray, name: str = "the frame") -> ReadyFrame:
        """Make a frame ready to be pushed: what can be done of it on another thread.

        Args:
            frame: uint8 BGR [H, W, 3].
            name: of the frame, for messages.

        Raises:
            TypeError, ValueError: it is no such frame.
        """
        check_bgr_image(frame, name)
        try:
            image = self._to_input(frame)
        except ValueError as error:  # of Pillow, for a side that would shrink to nothing
            height, width = frame.shape[:2]
            raise ValueError(f"{name} ({width}x{height} pixels): {error}") from error
        return ReadyFrame(frame, image.pin_memory() if self.device.type == "cuda" else image)

    def push(self, frame: np.ndarray | ReadyFrame) -> Results:
        """Take the next frame and return the detections that are complete with it.

        If anything goes wrong, the stream stays as it was: the frame can be pushed again.

        Args:
            frame: uint8 BGR [H, W, 3], or what `prepare` made of it.

        Returns:
            Index and detections, on the CPU and in pixels of the frame as it was given, of no
            frame or one; of all that waited where the size changes. A frame for which the detector
            gives no `instances` has none.

        Raises:
            ValueError: if the size changes and TEST.VIDEO.ON_SIZE_CHANGE is "error".
        """
        return self._instances(self._push(frame))

    def push_outputs(self, frame: np.ndarray | ReadyFrame) -> Outputs:
        """Do as `push`, but return all that the detector gives for a frame, by its names."""
        return [(index, output) for index, _, output in self._push(frame)]

    def _push(self, frame: np.ndarray | ReadyFrame) -> list[_Output]:
        if not isinstance(frame, ReadyFrame):
            frame = self.prepare(frame, f"frame {self._first_frame + self._received}")
        size = frame.size
        changed = self._size is not None and size != self._size
        if changed and self.on_size_change == "error":
            old = cast("tuple[int, int]", self._size)
            raise ValueError(
                f"frame {self._first_frame + self._received} is {size[1]}x{size[0]} pixels and "
                f"those before it {old[1]}x{old[0]}; feed frames of one size, "
                "call reset(), or set TEST.VIDEO.ON_SIZE_CHANGE to 'reset'"
            )
        with self._all_or_nothing(ends_part=changed):
            results = self._end_part() if changed else []
            self._size = size
            new = _Frame(self._received, frame.image.to(self.device, non_blocking=True), *size)
            self._received += 1
            self._waiting.append(new)
            if self._waiting[0].index + self.window.lookahead < self._received:
                results += self._detect(self._waiting.popleft(), new)
            else:
                self._observe(new)
            return self._take(results, self._held_back)

    def _take(self, results: list[_Coming], held_back: int) -> list[_Output]:
        """Return all results that have come or are coming, but for the last `held_back`."""
        coming = (*self._coming, *results)
        due = max(len(coming) - held_back, 0)
        taken = [(index, size, output.arrived()) for index, size, output in coming[:due]]
        self._coming = coming[due:]
        return taken

    def flush(self) -> Results:
        """End the video: return the results that waited for frames that will not come.

        The next frame pushed is frame 0 of another video. If anything goes wrong, the stream stays
        as it was.
        """
        return self._instances(self._flush())

    def flush_outputs(self) -> Outputs:
        """Do as `flush`, but return all that the detector gives for a frame, by its names."""
        return [(index, output) for index, _, output in self._flush()]

    def _flush(self) -> list[_Output]:
        with self._all_or_nothing(ends_part=True):
            results = self._take(self._end_part(), 0)
        self.reset()
        return results

    def _end_part(self) -> list[_Coming]:
        results: list[_Coming] = []
        while self._waiting:
            results += self._detect(self._waiting.popleft())
        # What comes next counts on, in a part of its own.
        self._first_frame += self._received
        self._forget_part()
        return results

    @contextmanager
    def _all_or_nothing(self, *, ends_part: bool) -> Iterator[None]:
        """Bring the stream back to where it was if something goes wrong.

        Args:
            ends_part: several frames may be detected in. One pass alone takes back by itself what
                it added to the memory; what it forgot no window reaches any more.
        """
        before = self._first_frame, self._video_id, self._received, self._size, self._coming
        waiting = self._waiting.copy()
        frames = self.memory.snapshot() if ends_part else None
        try:
            yield
        except BaseException:
            self._first_frame, self._video_id, self._received, self._size, self._coming = before
            self._waiting = waiting
            if frames is not None:
                self.memory.restore(frames)
            raise

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray, Instances]]:
        """Detect in a video of any length, from its start to its end.

        Frames are drawn and resized on a thread of their own, a few ahead of the detector; closing
        the iterator ends it. For a camera, whose frames should not wait, push them.

        Args:
            frames: uint8 BGR [H, W, 3] each.

        Yields:
            Index, frame as given, and its detections, in order.

        Raises:
            Whatever drawing a frame raises, in its place.
        """
        return self._run_over(frames, self.push, self.flush)

    def outputs(
        self, frames: Iterable[np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
        """Do as a call does, but yield all that the detector gives for a frame, by its names."""
        return self._run_over(frames, self.push_outputs, self.flush_outputs)

    def _run_over(
        self,
        frames: Iterable[np.ndarray],
        push: Callable[[ReadyFrame], list[tuple[int, T]]],
        flush: Callable[[], list[tuple[int, T]]],
    ) -> Iterator[tuple[int, np.ndarray, T]]:
        self.reset(late=True)
        run = self._run
        waiting: deque[np.ndarray] = deque()
        ready = (self.prepare(frame, f"frame {number}") for number, frame in enumerate(frames))
        with closing(read_ahead(ready)) as ahead:
            for frame in ahead:
                waiting.append(frame.pixels)
                for index, result in push(frame):
                    yield index, waiting.popleft(), result
                    if self._run != run:
                        raise RuntimeError(
                            "another video was begun before this one ended; use one predictor for "
                            "each (they may share a model)"
                        )
        for index, result in flush():
            yield index, waiting.popleft(), result

    def _sample(self, frame: _Frame) -> dict[str, Any]:
        return {
            "image": frame.image,
            "height": frame.height,
            "width": frame.width,
            "video_id": self._video_id,
            "frame_index": frame.index,
            # So far as is known. While frames are to come, the window ends before this.
            "video_length": self._received,
        }

    def _observe(self, frame: _Frame) -> None:
        """Have the frame encoded and kept, before its turn as key frame."""
        if self.window.num_refs:
            with self._stream():
                self.model.observe(self._sample(frame))  # type: ignore[operator]

    def _detect(self, frame: _Frame, new: _Frame | None = None) -> list[_Coming]:
        """Detect in a frame; `new` is one of its window that has not been encoded yet."""
        if self._first_frame + frame.index < self._first_result:
            if new is not None:
                self._observe(new)
            return []
        sample = self._sample(frame)
        if new is not None and new is not frame:
            sample["ref_images"], sample["ref_offsets"] = [new.image], [new.index - frame.index]
        with self._stream():
            (output,) = self.model([sample])
            named = named_output(output, type(self.model).__name__)
            coming = OnItsWay(named, self.device)
        return [(self._first_frame + frame.index, (frame.height, frame.width), coming)]

    def _instances(self, outputs: list[_Output]) -> Results:
        """Return the detections among outputs."""
        name = type(self.model).__name__
        return [(index, instances_of(output, size, name)) for index, size, output in outputs]

    def _precision(self) -> AbstractContextManager:
        if self.amp_type is None:
            return nullcontext()
        return mixed_precision(self.device.type, self.amp_type)

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """Work with the model on this predictor's video, in this predictor's precision."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(self._precision())
            if self.temporal is not None:
                stream = self.temporal.stream(self.memory, self.window, self.pairs_per_chunk)
                stack.enter_context(stream)
            yield
