"""Video in, boxes out: a detector that is fed one frame after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
from detectron2.structures import Instances
from torch import nn

from iff_detectron2.modeling.frame_memory import FrameMemory
from iff_detectron2.video.read_ahead import read_ahead

from .frame_detector import FrameDetector, Outputs, Results
from .ready_frame import ReadyFrame
from .video_stream import Output, run_in_step

T = TypeVar("T")


class VideoPredictor(FrameDetector):
    """Detects in a video whose frames come one at a time, each computed once.

    A window that looks ahead gives the result of a frame when the last frame of its window has
    come; a causal one at once. The length of the video need not be known: windows are clamped at
    its end when `flush` says that this is the end. What is kept is bounded by the window: the
    codes of its frames, and the network's input of those that wait for their result.

    Detectors may give other things than `instances`: `push_outputs`, `flush_outputs` and `outputs`
    return all that they give.

    Plain detectors work too: each frame alone, without delay. Predictors may share one model and
    take turns, since each has a frame memory of its own; they must not run at the same time. For
    several videos at a time, their frames in one batch, there is `MultiVideoPredictor`.
    """

    def __init__(self, cfg, model: nn.Module | None = None) -> None:
        """Arguments and errors are those of `FrameDetector`."""
        super().__init__(cfg, model)
        self._stream = self._new_stream()

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
        self._stream.reset(first_frame, first_result, self._held_back(late))

    def replay_from(self, frame_index: int) -> int:
        """Return the first frame that must be seen again for results from `frame_index` on."""
        return max(frame_index + min((0, *self.window.offsets)), 0)

    @property
    def delay(self) -> int:
        """Number of frames that come between a frame and its result."""
        return self._stream.delay

    @property
    def memory(self) -> FrameMemory:
        """What is kept of the frames of the video."""
        return self._stream.memory

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

    def _push(self, frame: np.ndarray | ReadyFrame) -> list[Output]:
        if not isinstance(frame, ReadyFrame):
            frame = self.prepare(frame, self._stream.next_frame)
        with self._stream.all_or_nothing(frame):
            (results,) = run_in_step([self._stream.push(frame)], self._compute)
        return results

    def flush(self) -> Results:
        """End the video: return the results that waited for frames that will not come.

        The next frame pushed is frame 0 of another video. If anything goes wrong, the stream stays
        as it was.
        """
        return self._instances(self._flush())

    def flush_outputs(self) -> Outputs:
        """Do as `flush`, but return all that the detector gives for a frame, by its names."""
        return [(index, output) for index, _, output in self._flush()]

    def _flush(self) -> list[Output]:
        with self._stream.all_or_nothing():
            (results,) = run_in_step([self._stream.flush()], self._compute)
        self.reset()
        return results

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
        run = self._stream.run
        waiting: deque[np.ndarray] = deque()
        ready = (self.prepare(frame, f"frame {number}") for number, frame in enumerate(frames))
        with closing(read_ahead(ready)) as ahead:
            for frame in ahead:
                waiting.append(frame.pixels)
                for index, result in push(frame):
                    yield index, waiting.popleft(), result
                    if self._stream.run != run:
                        raise RuntimeError(
                            "another video was begun before this one ended; use one predictor for "
                            "each (they may share a model)"
                        )
        for index, result in flush():
            yield index, waiting.popleft(), result
