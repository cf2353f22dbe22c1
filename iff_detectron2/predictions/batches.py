"""Files of saved detections as batches of columns; what is wrong in them is named with its place.

Two forms, told apart by the file's name: COCO-style results (`.json`) and FGFA's text (any other
name).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.structures import NO_TRACK, Detections

from .frame_list import FRAME_KEYS, Frame, frame_of
from .json_stream import iterate_json_array

DETECTIONS_PER_BATCH = 1 << 16
TEXT_COLUMNS = 7
LARGEST_ID = 2**31 - 1
REQUIRED_KEYS = frozenset(("image_id", "category_id", "bbox", "score"))


@dataclass(frozen=True)
class Source:
    """Where detections come from, for errors.

    Attributes:
        name: of the file.
        unit: what is counted in it: "detection" (from 0) or "line" (from 1).
    """

    name: str
    unit: str = "detection"

    def error(self, number: int, problem: str, image_id: Any = None) -> ValueError:
        """Return an error that says where a detection is and what is wrong with it.

        Args:
            number: of the detection or line, as `unit` counts.
            problem: what is wrong.
            image_id: of its frame, if it is known.
        """
        frame = "" if image_id is None else f", image_id {image_id!r}"
        return ValueError(f"{self.name}, {self.unit} {number}{frame}: {problem}")


@dataclass(frozen=True)
class PredictionBatch:
    """Consecutive detections of a file, with their place in it, which errors must name.

    Attributes:
        source: where they come from.
        first: number of the first of them there.
        frames: what the file says of each frame, with the keys of `FRAME_KEYS`; the same frame
            again where detections of another lie between.
        detections: with rows of `frames`; `classes` are the category ids in the file.
    """

    source: Source
    first: int
    frames: list[dict[str, Any]]
    detections: Detections

    def error(self, row: int, problem: str) -> ValueError:
        """Return an error that says where the detection is and what is wrong with it."""
        frame = self.frames[self.detections.frames[row]]
        return self.source.error(self.first + row, problem, frame["image_id"])


def iterate_batches(path: str | Path, form: str = "") -> Iterator[PredictionBatch]:
    """Yield the detections of a file in batches; form "json", "text", or "" to go by the name."""
    path = Path(path)
    if form == "json" or (not form and path.suffix.lower() == ".json"):
        return result_batches(iterate_json_array(path), str(path))
    return _text_batches(path)


def result_batches(results: Iterable[dict[str, Any]], name: str) -> Iterator[PredictionBatch]:
    """Yield COCO-style results in batches; `name` stands in errors."""
    source = Source(name)
    entries = iter(results)
    for first in itertools.count(0, DETECTIONS_PER_BATCH):
        part = list(itertools.islice(entries, DETECTIONS_PER_BATCH))
        if not part:
            return
        frames, rows = _frames(source, first, part)
        boxes = _numbers(source, first, part, "bbox", (4,))
        sizes = boxes[:, 2:].copy()
        boxes[:, 2:] += boxes[:, :2]
        detections = Detections(
            frames=rows,
            boxes=boxes,
            scores=_numbers(source, first, part, "score", ()),
            classes=_integers(source, first, part, "category_id"),
            track_ids=_tracks(source, first, part),
            sizes=sizes,
        )
        yield _checked(PredictionBatch(source, first, frames, detections))


def _frames(
    source: Source, first: int, part: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the frames, one per run of detections that say the same, and the row of each."""
    frames: list[dict[str, Any]] = []
    starts = []
    last: tuple[Any, ...] | None = None
    for row, entry in enumerate(part):
        if not entry.keys() >= REQUIRED_KEYS:
            missing = min(REQUIRED_KEYS - entry.keys())
            image_id = entry.get("image_id", "unknown")
            raise source.error(first + row, f"it has no {missing!r}", image_id)
        get = entry.get
        said = (entry["image_id"], get("video_id"), get("frame_index"), get("frame_number"))
        if said != last:
            problem = _problem_of_frame(entry)
            if problem:
                image_id = None if problem.startswith("image_id") else entry["image_id"]
                raise source.error(first + row, problem, image_id)
            frames.append(frame_of(entry))
            if "video_id" in frames[-1]:
                frames[-1]["video_id"] = str(entry["video_id"])
            starts.append(row)
            last = said
    return frames, np.repeat(np.arange(len(starts)), np.diff([*starts, len(part)]))


def _problem_of_frame(entry: Mapping[str, Any]) -> str:
    image_id, video_id, index, number = (entry.get(key) for key in FRAME_KEYS)
    if not isinstance(image_id, int | str):
        return f"image_id must be a number or a name, got {image_id!r:.80}"
    if video_id is not None and not isinstance(video_id, int | str):
        return f"video_id must be a name or a number, got {video_id!r:.80}"
    # A number of the source may be a time in nanoseconds.
    limits = (("frame_index", index, LARGEST_ID), ("frame_number", number, 2**63 - 1))
    for key, value, most in limits:
        if value is not None and not isinstance(value, int):
            return f"{key} must be a whole number, got {value!r:.80}"
        if value is not None and abs(value) > most:
            return f"{key} must be a whole number up to {most}, got {value!r:.80}"
    return ""


def _numbers(
    source: Source, first: int, part: Sequence[dict[str, Any]], key: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the values of a key as float64, [N, *shape]."""

    def convert(entries: Sequence[dict[str, Any]]) -> np.ndarray | None:
        try:
            values = np.array([entry[key] for entry in entries])
        except ValueError:  # lists of several lengths
            return None
        fits = values.shape == (len(entries), *shape) and values.dtype.kind in "iuf"
        return values.astype(np.float64) if fits else None

    values = convert(part)
    if values is None:
        wanted = "four numbers (x, y, width, height)" if shape else "a number"
        row = next((r for r, entry in enumerate(part) if convert([entry]) is None), 0)
        problem = f"{key} must be {wanted}, got {part[row][key]!r:.80}"
        raise source.error(first + row, problem, part[row]["image_id"])
    return values


def _integers(source: Source, first: int, part: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    values = _numbers(source, first, part, key, ())
    bad = ~(np.abs(values) <= LARGEST_ID) | (values != np.rint(values))
    if bad.any():
        row = int(np.argmax(bad))
        problem = f"{key} must be a whole number up to {LARGEST_ID}, got {part[row][key]!r:.80}"
        raise source.error(first + row, problem, part[row]["image_id"])
    return values.astype(np.int64)


def _tracks(source: Source, first: int, part: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the track ids, `NO_TRACK` where the file gives none."""
    tracks = np.full(len(part), NO_TRACK, dtype=np.int64)
    tracked = [row for row, entry in enumerate(part) if entry.get("track_id") is not None]
    for row in tracked:
        track_id = part[row]["track_id"]
        if not isinstance(track_id, int) or not 0 <= track_id <= LARGEST_ID:
            problem = f"track_id must be a whole number from 0, got {track_id!r:.80}"
            raise source.error(first + row, problem, part[row]["image_id"])
        tracks[row] = track_id
    return tracks


def _text_batches(path: Path) -> Iterator[PredictionBatch]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}")
    source = Source(str(path), "line")
    with path.open(encoding="utf-8", errors="replace") as stream:
        for first in itertools.count(1, DETECTIONS_PER_BATCH):
            lines = list(itertools.islice(stream, DETECTIONS_PER_BATCH))
            if not lines:
                return
            values = _table(source, first, lines)
            whole = (np.abs(values[:, :2]) <= LARGEST_ID) & (
                values[:, :2] == np.rint(values[:, :2])
            )
            if not whole.all():
                row = int(np.argmin(whole.all(axis=1)))
                problem = "frame id and class, the first two numbers, must be whole"
                raise source.error(first + row, f"{problem}: {lines[row].strip()[:80]!r}")
            image_ids = values[:, 0].astype(np.int64)
            starts = np.flatnonzero(np.diff(image_ids, prepend=image_ids[0] - 1))
            frames = [{"image_id": image_id} for image_id in image_ids[starts].tolist()]
            detections = Detections(
                frames=np.repeat(np.arange(len(starts)), np.diff(starts, append=len(lines))),
                boxes=values[:, 3:],
                scores=values[:, 2],
                classes=values[:, 1].astype(np.int64),
            )
            yield _checked(PredictionBatch(source, first, frames, detections))


def _table(source: Source, first: int, lines: Sequence[str]) -> np.ndarray:
    """Return the numbers of the lines, [N, 7]."""

    def read(some: Sequence[str]) -> np.ndarray | None:
        if not some[-1].endswith("\n") or any(line.isspace() for line in some):
            return None
        try:
            table = np.loadtxt(some, ndmin=2, comments=None)
        except ValueError:
            return None
        return table if table.shape == (len(some), TEXT_COLUMNS) else None

    table = read(lines)
    if table is None:
        row = next(r for r, line in enumerate(lines) if read([line]) is None)
        problem = f"expected `frame class score x1 y1 x2 y2`, got {lines[row].strip()[:80]!r}"
        if not lines[row].endswith("\n"):
            problem = "the file is cut off, its last line has no end; write or copy it again"
        raise source.error(first + row, problem)
    return table


def _checked(batch: PredictionBatch) -> PredictionBatch:
    """Return the batch if all its detections can be scored; categories are the dataset's affair."""
    bad = batch.detections.find_bad()
    if bad is not None:
        raise batch.error(*bad)
    return batch


def frames_of_batch(batch: PredictionBatch) -> Iterator[tuple[Frame, slice]]:
    """Yield each frame of a batch with the rows of its detections."""
    starts = batch.detections.row_starts(len(batch.frames))
    for number, frame in enumerate(batch.frames):
        yield frame, slice(int(starts[number]), int(starts[number + 1]))
