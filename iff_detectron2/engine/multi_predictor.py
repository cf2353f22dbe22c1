"""Several videos in, boxes out: one model, and the frames of all videos in one batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from detectron2.structures import Instances
from torch import nn

from iff_detectron2.video.read_ahead import read_ahead

from .frame_detector import FrameDetector, Outputs, Results
from .ready_frame import ReadyFrame
from .video_stream import Output, VideoStream, run_in_step

Video = TypeVar("Video", bound=Hashable)
T = TypeVar("T")


class VideoError(RuntimeError):
    """A video cannot be gone on with; what was wrong is the cause of this error.

    Attributes:
        video: name of the video.
    """

    def __init__(self, video: Hashable, message: str) -> None:
        super().__init__(message)
        self.video = video


class MultiVideoPredictor(FrameDetector):
    """Detects in several videos at a time, their next frames in one batch.

    Each video is a stream of its own, as in `VideoPredictor`: with its own frame memory, length and
    size, and the results that it has alone, but for rounding where a batch is computed in another
    order. Frames whose network input is of one size share a batch in backbone, encoders and heads.
    Those of other sizes go beside them, and pairs of frames are fused video by video, since each
    has a window of its own.
    """

    def __init__(self, cfg, model: nn.Module | None = None) -> None:
        """Arguments and errors are those of `FrameDetector`."""
        super().__init__(cfg, model)
        self._videos: dict[Hashable, VideoStream] = {}
        self._run = object()

    @property
    def videos(self) -> tuple[Hashable, ...]:
        """Names of the videos that have begun and not ended."""
        return tuple(self._videos)

    def reset(self, *videos: Hashable) -> None:
        """Forget videos by their names, all if none is given."""
        for video in videos or self.videos:
            self._videos.pop(video, None)

    def push(self, frames: Mapping[Video, np.ndarray | ReadyFrame]) -> dict[Video, Results]:
        """Take the next frame of some videos and return the detections that are complete with it.

        If anything goes wrong, all videos stay as they were: the frames can be pushed again.

        Args:
            frames: uint8 BGR [H, W, 3] each, or what `prepare` made of it, by the name of its
                video. A name that is new begins a video.

        Returns:
            For each of these videos what `VideoPredictor.push` returns.

        Raises:
            TypeError, ValueError: for a frame that cannot be taken, named with its video.
        """
        return self._detections(self._advance(frames))

    def push_outputs(self, frames: Mapping[Video, np.ndarray | ReadyFrame]) -> dict[Video, Outputs]:
        """Do as `push`, but return all that the detector gives for a frame, by its names."""
        return _all_given(self._advance(frames))

    def flush(self, *videos: Video) -> dict[Video, Results]:
        """End videos: return the results that waited for frames that will not come.

        If anything goes wrong, all videos stay as they were.

        Args:
            videos: their names; all if none is given.

        Raises:
            ValueError: if no frame of a video was pushed.
        """
        return self._detections(self._advance({}, self._known(videos)))

    def flush_outputs(self, *videos: Video) -> dict[Video, Outputs]:
        """Do as `flush`, but return all that the detector gives for a frame, by its names."""
        return _all_given(self._advance({}, self._known(videos)))

    def _known(self, videos: Iterable[Any]) -> tuple[Any, ...]:
        videos = tuple(videos) or self.videos
        for video in videos:
            if video not in self._videos:
                raise ValueError(
                    f"no video {video!r} is running, but {', '.join(map(repr, self.videos)) or 0}; "
                    "push a frame of it first"
                )
        return videos

    def _detections(self, outputs: dict[Video, list[Output]]) -> dict[Video, Results]:
        return {video: self._instances(found) for video, found in outputs.items()}

    def _advance(
        self,
        frames: Mapping[Video, np.ndarray | ReadyFrame],
        ended: Iterable[Video] = (),
        *,
        late: bool = False,
    ) -> dict[Video, list[Output]]:
        """Push the next frame of some videos and end others: all of it, or nothing."""
        begun: dict[Hashable, VideoStream] = {}
        works = {}
        with ExitStack() as undo:
            for video, frame in frames.items():
                stream = self._videos.get(video)
                if stream is None:
                    stream = begun[video] = self._new_stream(repr(video))
                    stream.reset(held_back=self._held_back(late))
                if not isinstance(frame, ReadyFrame):
                    frame = self.prepare(frame, stream.next_frame)
                undo.enter_context(stream.all_or_nothing(frame))
                works[video] = stream.push(frame)
            for video in ended:
                undo.enter_context(self._videos[video].all_or_nothing())
                works[video] = self._videos[video].flush()
            results = run_in_step([*works.values()], self._compute)
        self._videos.update(begun)
        for video in ended:
            del self._videos[video]
        return dict(zip(works, results, strict=True))

    def __call__(
        self, videos: Mapping[Video, Iterable[np.ndarray]], at_once: int = 0
    ) -> Iterator[tuple[Video, int, np.ndarray, Instances]]:
        """Detect in videos of any length, from their starts to their ends.

        They go on frame by frame together, so that a slow one keeps the others waiting. Each is
        drawn and resized on a thread of its own; closing the iterator ends these.

        Args:
            videos: uint8 BGR frames [H, W, 3] of each, by its name.
            at_once: videos at a time; where one ends, the next begins. 0 for all.

        Yields:
            Name of the video, index, frame as given, and its detections, for each video in order.

        Raises:
            VideoError: if a frame cannot be drawn or taken, behind the results before it.
        """
        return self._run_over(videos, at_once, self._detections)

    def outputs(
        self, videos: Mapping[Video, Iterable[np.ndarray]], at_once: int = 0
    ) -> Iterator[tuple[Video, int, np.ndarray, dict[str, Any]]]:
        """Do as a call does, but yield all that the detector gives for a frame, by its names."""
        return self._run_over(videos, at_once, _all_given)

    def _run_over(
        self,
        videos: Mapping[Video, Iterable[np.ndarray]],
        at_once: int,
        form: Callable[[dict[Video, list[Output]]], dict[Video, list[tuple[int, T]]]],
    ) -> Iterator[tuple[Video, int, np.ndarray, T]]:
        if at_once < 0:
            raise ValueError(f"at_once must be a number of videos, or 0 for all, got {at_once}")
        self.reset()
        run = self._run = object()
        to_come = iter(videos.items())
        ahead: dict[Video, Generator[ReadyFrame, None, None]] = {}
        waiting: dict[Video, deque[np.ndarray]] = {}
        try:
            while True:
                for video, source in islice(to_come, (at_once or len(videos)) - len(ahead)):
                    ahead[video], waiting[video] = self._read(source), deque()
                if not ahead:
                    return
                frames = {video: frame for video in ahead if (frame := _next(video, ahead[video]))}
                ended = [video for video in ahead if video not in frames]
                for video, frame in frames.items():
                    waiting[video].append(frame.pixels)
                # An empty video has not begun.
                outputs = self._advance(frames, [v for v in ended if v in self._videos], late=True)
                for video, results in form(outputs).items():
                    for index, result in results:
                        yield video, index, waiting[video].popleft(), result
                        if self._run is not run:
                            raise RuntimeError(
                                "other videos were begun before these ended; use one predictor for "
                                "each loop (they may share a model)"
                            )
                for video in ended:
                    del ahead[video], waiting[video]
        finally:
            for reading in ahead.values():
                reading.close()

    def _read(self, source: Iterable[np.ndarray]) -> Generator[ReadyFrame, None, None]:
        frames = enumerate(source)
        return read_ahead(self.prepare(frame, f"frame {number}") for number, frame in frames)


def _next(video: Hashable, frames: Iterator[ReadyFrame]) -> ReadyFrame | None:
    try:
        return next(frames, None)
    except Exception as error:
        raise VideoError(video, f"video {video!r}: {error}") from error


def _all_given(outputs: dict[Video, list[Output]]) -> dict[Video, Outputs]:
    return {
        video: [(index, output) for index, _, output in found] for video, found in outputs.items()
    }
