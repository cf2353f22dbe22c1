"""One video on its way through a detector: what waits, what is asked of the detector, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar, cast

import torch

from iff_detectron2.modeling.frame_memory import FrameMemory
from iff_detectron2.structures import TemporalWindow

from .detector_output import OnItsWay
from .ready_frame import ReadyFrame

# Names of videos, so that a frame memory never takes one for another.
_PARTS = count()


@dataclass
class Step:
    """What a stream asks of the detector next.

    Attributes:
        memory: that of the stream.
        sample: a frame of it, as a video detector takes it.
        detect: detect in the frame; otherwise encode and keep it.
    """

    memory: FrameMemory
    sample: dict[str, Any]
    detect: bool


@dataclass
class _Frame:
    """A frame that waits for its turn as key frame; `index` counts from the start of its part."""

    index: int
    image: torch.Tensor
    height: int
    width: int


T = TypeVar("T")
# A generator yields what it asks of the detector, is sent the output where it is to detect, and
# returns its results.
Work = Generator[Step, OnItsWay | None, T]

Output = tuple[int, tuple[int, int], dict[str, Any]]
"""Index of a frame, its height and width, and what the detector gives for it."""

_Coming = tuple[int, tuple[int, int], OnItsWay]


def run_in_step(
    works: Sequence[Work[T]], compute: Callable[[list[Step]], Sequence[OnItsWay | None]]
) -> list[T]:
    """Run works side by side, so that what they ask for at a time is computed together.

    Args:
        works: of streams, each of another one.
        compute: answers what several of them ask.

    Returns:
        What each returns, in their order.
    """
    results: dict[int, T] = {}
    answers: dict[int, OnItsWay | None] = dict.fromkeys(range(len(works)))
    while answers:
        steps = {}
        for number, answer in answers.items():
            try:
                steps[number] = works[number].send(answer)
            except StopIteration as end:  # noqa: PERF203 - as a generator returns
                results[number] = end.value
        answers = dict(zip(steps, compute([*steps.values()]), strict=True)) if steps else {}
    return [results[number] for number in range(len(works))]


class VideoStream:
    """Turns frames that come one at a time into key frames with their windows.

    A key frame is detected in when the last frame of its window has come. What is kept is bounded
    by the window: the codes of its frames, and the network's input of those that wait.

    Attributes:
        memory: codes of its frames.
        run: differs from video to video.
    """

    def __init__(
        self,
        window: TemporalWindow,
        memory: FrameMemory,
        device: torch.device,
        *,
        on_size_change: str = "error",
        name: str = "",
    ) -> None:
        """
        Args:
            window: that of the detector; one of no reference frames if it is plain.
            memory: an empty one.
            device: where the detector is.
            on_size_change: `error` or `reset`, as TEST.VIDEO.ON_SIZE_CHANGE.
            name: of the video, for messages; empty if there is no other.
        """
        self.memory = memory
        self._window = window
        self._device = device
        self._on_size_change = on_size_change
        self._name = f" of video {name}" if name else ""
        self.reset()

    def reset(self, first_frame: int = 0, first_result: int = 0, held_back: int = 0) -> None:
        """Forget the video; the next frame starts another.

        Args:
            first_frame: index of the next frame.
            first_result: results start with this frame.
            held_back: results that are handed out later, since they are still coming.
        """
        self._first_frame, self._first_result = first_frame, first_result
        self._held_back = held_back
        self._coming: tuple[_Coming, ...] = ()
        self.run = next(_PARTS)
        self._forget_part()

    def _forget_part(self) -> None:
        """Start a part: the frames between two changes of size, which is a video to the model."""
        self.memory.clear()
        self._video_id = f"stream {next(_PARTS)}"
        self._received = 0
        self._size: tuple[int, int] | None = None
        self._waiting: deque[_Frame] = deque()

    @property
    def next_frame(self) -> str:
        """Number of the next frame, and its video, for messages."""
        return f"frame {self._first_frame + self._received}{self._name}"

    @property
    def delay(self) -> int:
        """Number of frames that come between a frame and its result."""
        return self._window.lookahead + self._held_back

    def _changes_size(self, frame: ReadyFrame) -> bool:
        return self._size is not None and frame.size != self._size

    @contextmanager
    def all_or_nothing(self, frame: ReadyFrame | None = None) -> Iterator[None]:
        """Bring the stream back to where it was if something goes wrong.

        Args:
            frame: is pushed; None if the video ends.
        """
        before = {**vars(self), "_waiting": self._waiting.copy()}
        last_key = self.memory.last_key
        # One frame adds itself to the memory; what is forgotten with it no window reaches any more.
        ends_part = frame is None or self._changes_size(frame)
        frames = self.memory.snapshot() if ends_part else None
        try:
            yield
        except BaseException:
            vars(self).update(before)
            if frames is not None:
                self.memory.restore(frames)
            elif self._received:
                self.memory.discard([self._received])
                self.memory.last_key = last_key
            else:
                self.memory.clear()
            raise

    def push(self, frame: ReadyFrame) -> Work[list[Output]]:
        """Take the next frame and return the outputs that have come with it.

        Raises:
            ValueError: if the size changes and that is an error.
        """
        changed = self._changes_size(frame)
        height, width = frame.size
        if changed and self._on_size_change == "error":
            old = cast("tuple[int, int]", self._size)
            raise ValueError(
                f"{self.next_frame} is {width}x{height} pixels and those before it "
                f"{old[1]}x{old[0]}; feed frames of one size, call reset(), or set "
                "TEST.VIDEO.ON_SIZE_CHANGE to 'reset'"
            )
        results = (yield from self._end_part()) if changed else []
        self._size = height, width
        image = frame.image.to(self._device, non_blocking=True)
        new = _Frame(self._received, image, height, width)
        self._received += 1
        self._waiting.append(new)
        if self._waiting[0].index + self._window.lookahead < self._received:
            results += yield from self._detect(self._waiting.popleft(), new)
        else:
            yield from self._observe(new)
        return self._take(results, self._held_back)

    def flush(self) -> Work[list[Output]]:
        """End the video: return the outputs that waited for frames that will not come."""
        results = yield from self._end_part()
        return self._take(results, 0)

    def _end_part(self) -> Work[list[_Coming]]:
        results: list[_Coming] = []
        while self._waiting:
            results += yield from self._detect(self._waiting.popleft())
        # What comes next counts on, in a part of its own.
        self._first_frame += self._received
        self._forget_part()
        return results

    def _take(self, results: list[_Coming], held_back: int) -> list[Output]:
        """Return all results that have come or are coming, but for the last `held_back`."""
        coming = (*self._coming, *results)
        due = max(len(coming) - held_back, 0)
        taken = [(index, size, output.arrived()) for index, size, output in coming[:due]]
        self._coming = coming[due:]
        return taken

    def _observe(self, frame: _Frame) -> Work[None]:
        """Have the frame encoded and kept, before its turn as key frame."""
        if self._window.num_refs:
            yield Step(self.memory, self._sample(frame), detect=False)

    def _detect(self, frame: _Frame, new: _Frame | None = None) -> Work[list[_Coming]]:
        """Detect in a frame; `new` is one of its window that has not been encoded yet."""
        if self._first_frame + frame.index < self._first_result:
            if new is not None:
                yield from self._observe(new)
            return []
        sample = self._sample(frame)
        if new is not None and new is not frame:
            sample["ref_images"], sample["ref_offsets"] = [new.image], [new.index - frame.index]
        output = yield Step(self.memory, sample, detect=True)
        size = frame.height, frame.width
        return [(self._first_frame + frame.index, size, cast(OnItsWay, output))]

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
