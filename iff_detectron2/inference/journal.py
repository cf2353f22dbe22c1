"""What a run over a video has done so far: a file that only grows, one line a frame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.structures import Detections

from .frame_output import FrameOutput, Region

FORMAT = "iff_detectron2 journal 1"
# Of `Detections`, as a line holds them; the second where a detector gives them.
COLUMNS = ("boxes", "scores", "classes")
MORE_COLUMNS = ("masks", "keypoints")
_END = {"end": True}


class Journal:
    """Results of the first frames of a video, in order, each safe as soon as it is appended.

    A run that was killed leaves at most a torn last line, which is cut off when the journal is
    opened again. Numbers are kept in full, so that a run in two parts ends with the same results
    as one that was not disturbed.

    Attributes:
        num_frames: frames that are done: 0 to `num_frames - 1`.
        bridged: those of them for which another stood in, and why.
        complete: the video ends there.
        regions: of each frame that is done.
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
        self.regions: list[list[Region]] = []
        self._found: list[Detections] = []
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
                try:
                    found = self._parse(value)
                except (ValueError, TypeError, KeyError, OverflowError) as error:
                    raise self._damaged(number + 1, error) from error
                self._note(found, value.get("bridged"))
            end += len(line)
        return end

    def _parse(self, value: dict[str, Any]) -> FrameOutput:
        columns: dict[str, Any] = {name: value.get(name) for name in (*COLUMNS, *MORE_COLUMNS)}
        found = Detections(np.full(len(value["scores"]), self.num_frames), **columns)
        if not isinstance(value.get("bridged"), str | None):
            raise ValueError(f"'bridged' is {value['bridged']!r:.80}")
        if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
            raise ValueError("a number is not finite")
        regions = value.get("regions", [])
        if not isinstance(regions, list) or not all(isinstance(r, dict) for r in regions):
            raise ValueError(f"'regions' is {regions!r:.80}")
        return FrameOutput(found, regions)

    def _damaged(self, number: int, error: object) -> ValueError:
        return ValueError(
            f"{self.path}, line {number} is damaged ({error}); delete the file to begin anew"
        )

    def _note(self, found: FrameOutput, bridged: str | None) -> None:
        self._found.append(found.detections)
        self.regions.append(found.regions)
        if bridged is not None:
            self.bridged[self.num_frames] = bridged
        self.num_frames += 1

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
                except (ValueError, RecursionError) as error:
                    raise self._damaged(number, error) from error
                if not isinstance(value, dict):
                    raise self._damaged(number, "no object")
                yield line, value

    def _write(self, value: dict[str, Any]) -> None:
        self._stream.write(json.dumps(value, allow_nan=False) + "\n")
        # Out of this process, so that the line outlives it.
        self._stream.flush()

    def append(self, frame: int, found: FrameOutput, bridged: str | None = None) -> None:
        """Add the next frame.

        Args:
            frame: its index.
            found: what was found in it.
            bridged: why another frame stood in for this one; None if it was read.

        Raises:
            ValueError: if it is not the next.
        """
        if frame != self.num_frames:
            raise ValueError(f"{self.path}: frame {self.num_frames} is next, got {frame}")
        known = {k: getattr(found.detections, k) for k in (*COLUMNS, *MORE_COLUMNS)}
        columns = {name: column.tolist() for name, column in known.items() if column is not None}
        regions = {"regions": found.regions} if found.regions else {}
        self._write({"frame": frame, **columns, **regions, "bridged": bridged})
        self._note(found, bridged)

    def finish(self) -> None:
        """Note that the video ends here."""
        self._write(_END)
        self.complete = True

    def detections(self) -> Detections:
        """All detections of the frames that are done, in order of the frames, in float64."""
        found = Detections.concatenate(self._found)
        return replace(
            found, boxes=found.boxes.astype(np.float64), scores=found.scores.astype(np.float64)
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
