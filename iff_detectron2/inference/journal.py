"""What a run over a video has done so far: a file that only grows, one line a frame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import Instances

from iff_detectron2.evaluation import Detections

FORMAT = "iff_detectron2 journal 1"
_END = {"end": True}


@dataclass(frozen=True)
class FrameResult:
    """Detections of one frame.

    Attributes:
        frame: index of the frame, from 0.
        boxes: corners (x1, y1, x2, y2) in pixels of the frame, one a detection.
        scores: one a detection.
        classes: class number of each.
        bridged: why another frame stood in for this one; None if it was read.
    """

    frame: int
    boxes: list[list[float]]
    scores: list[float]
    classes: list[int]
    bridged: str | None = None

    @classmethod
    def from_instances(
        cls, frame: int, instances: Instances, bridged: str | None = None
    ) -> FrameResult:
        """Take what a detector found."""
        return cls(
            frame,
            instances.pred_boxes.tensor.tolist(),
            instances.scores.tolist(),
            instances.pred_classes.tolist(),
            bridged,
        )


class Journal:
    """Results of the first frames of a video, in order, each safe as soon as it is appended.

    A run that was killed leaves at most a torn last line, which is cut off when the journal is
    opened again. Numbers are kept in full, so that a run in two parts ends with the same results
    as one that was not disturbed.

    Attributes:
        num_frames: frames that are done: 0 to `num_frames - 1`.
        bridged: those of them for which another stood in, and why.
        complete: the video ends there.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        """Open the journal of a run, or begin one.

        Args:
            path: the file.
            run: what the results depend on, as JSON can hold it: source, config, weights.

        Raises:
            ValueError: if the file is the journal of another run, or damaged.
        """
        self.path = path
        self.num_frames = 0
        self.bridged: dict[int, str] = {}
        self.complete = False
        run = json.loads(json.dumps({"format": FORMAT, **run}))
        path.parent.mkdir(parents=True, exist_ok=True)
        end = self._check(run) if path.is_file() else 0
        self._stream = path.open("a", encoding="utf-8")
        if end == 0:
            self._stream.truncate(0)
            self._write(run)
        else:
            self._stream.truncate(end)

    def _check(self, run: dict[str, Any]) -> int:
        """Read what is there; return where its last whole line ends."""
        end = 0
        for number, (line, value) in enumerate(self._lines()):
            if number == 0:
                self._check_run(value, run)
            elif value == _END:
                self.complete = True
            elif value.get("frame") != self.num_frames:
                raise ValueError(
                    f"{self.path}, line {number + 1}: frame {self.num_frames} was expected, not "
                    f"{value.get('frame')}; delete the file to begin anew"
                )
            else:
                if value["bridged"] is not None:
                    self.bridged[self.num_frames] = value["bridged"]
                self.num_frames += 1
            end += len(line)
        return end

    def _check_run(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        different = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if different:
            raise ValueError(
                f"{self.path} is of a run with another {' and '.join(different)}; choose another "
                "output folder, or begin anew in this one"
            )

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return  # torn by a sudden end
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{self.path}, line {number} is damaged ({error}); delete the file to "
                        "begin anew"
                    ) from error
                yield line, value

    def _write(self, value: dict[str, Any]) -> None:
        self._stream.write(json.dumps(value, allow_nan=False) + "\n")
        # Out of this process, so that the line outlives it.
        self._stream.flush()

    def append(self, result: FrameResult) -> None:
        """Add the next frame.

        Raises:
            ValueError: if it is not the next.
        """
        if result.frame != self.num_frames:
            raise ValueError(f"{self.path}: frame {self.num_frames} is next, got {result.frame}")
        self._write(vars(result))
        self.num_frames += 1
        if result.bridged is not None:
            self.bridged[result.frame] = result.bridged

    def finish(self) -> None:
        """Note that the video ends here."""
        self._write(_END)
        self.complete = True

    def results(self) -> Iterator[FrameResult]:
        """Read the frames that are done, in order."""
        lines = self._lines()
        next(lines)
        for _, value in lines:
            if value != _END:
                yield FrameResult(**value)

    def detections(self) -> Detections:
        """All detections, in order of the frames."""
        results = [r for r in self.results() if r.scores]
        counts = [len(r.scores) for r in results]
        empty = np.empty(0)
        return Detections(
            frames=np.repeat([r.frame for r in results], counts) if results else empty,
            boxes=np.concatenate([np.array(r.boxes) for r in results]) if results else empty,
            scores=np.concatenate([np.array(r.scores) for r in results]) if results else empty,
            classes=np.concatenate([np.array(r.classes) for r in results]) if results else empty,
        )

    def last_read_before(self, frame: int) -> int:
        """Return the last frame before this one that was really read; 0 if none was."""
        return next((f for f in range(frame - 1, -1, -1) if f not in self.bridged), 0)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
