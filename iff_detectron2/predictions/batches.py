"""Files of saved detections as batches of arrays; what is wrong in them is named with its place.

Two forms, told apart by the file's name: COCO-style results (`.json`) and FGFA's text (any other
name).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.structures import Detections

from .json_stream import iterate_json_array

DETECTIONS_PER_BATCH = 1 << 16
TEXT_COLUMNS = 7


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
        """Return an error that says where a detection is and what is wrong with it."""
        frame = "" if image_id is None else f", image_id {image_id!r}"
        return ValueError(f"{self.name}, {self.unit} {number}{frame}: {problem}")


@dataclass(frozen=True)
class PredictionBatch:
    """Consecutive detections of a file, [N], checked as far as that goes without a dataset.

    Attributes:
        source: where they come from.
        first: number of the first of them there.
        image_ids: ids of the frames, N integers or strings.
        videos: (video_id, frame_index) of each detection, None where the file does not say.
        category_ids: shape [N], int64, as in the file.
        boxes: shape [N, 4], float64, XYXY in pixels.
        scores: shape [N], float64.
        sizes: shape [N, 2], float64, width and height as in the file; None for text.
    """

    source: Source
    first: int
    image_ids: list[Any]
    videos: list[tuple[str, int] | None]
    category_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray | None = None

    def error(self, row: int, problem: str) -> ValueError:
        """Return an error that says where the detection is and what is wrong with it."""
        return self.source.error(self.first + row, problem, self.image_ids[row])


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
        for row, entry in enumerate(part):
            missing = {"image_id", "category_id", "bbox", "score"} - entry.keys()
            if missing:
                image_id = entry.get("image_id", "unknown")
                raise source.error(first + row, f"it has no {sorted(missing)[0]!r}", image_id)
            if not isinstance(entry["image_id"], int | str):
                problem = f"image_id must be a number or a name, got {entry['image_id']!r:.80}"
                raise source.error(first + row, problem)
        boxes = _numbers(source, first, part, "bbox", (4,))
        sizes = boxes[:, 2:].copy()
        boxes[:, 2:] += boxes[:, :2]
        yield _checked(
            PredictionBatch(
                source=source,
                first=first,
                image_ids=[entry["image_id"] for entry in part],
                videos=[_video(source, first + row, entry) for row, entry in enumerate(part)],
                category_ids=_integers(source, first, part, "category_id"),
                boxes=boxes,
                scores=_numbers(source, first, part, "score", ()),
                sizes=sizes,
            )
        )


def _video(source: Source, number: int, entry: dict[str, Any]) -> tuple[str, int] | None:
    video_id, frame_index = entry.get("video_id"), entry.get("frame_index")
    if video_id is None or frame_index is None:
        return None
    if not isinstance(frame_index, int) or not isinstance(video_id, int | str):
        problem = (
            "video_id must be a name or a number and frame_index a whole number, got "
            f"{video_id!r:.80} and {frame_index!r:.80}"
        )
        raise source.error(number, problem, entry["image_id"])
    return str(video_id), frame_index


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
    bad = ~(np.abs(values) < 2**53) | (values != np.rint(values))
    if bad.any():
        row = int(np.argmax(bad))
        problem = f"{key} must be a whole number, got {part[row][key]!r}"
        raise source.error(first + row, problem, part[row]["image_id"])
    return values.astype(np.int64)


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
            whole = (np.abs(values[:, :2]) < 2**53) & (values[:, :2] == np.rint(values[:, :2]))
            if not whole.all():
                row = int(np.argmin(whole.all(axis=1)))
                problem = "frame id and class, the first two numbers, must be whole"
                raise source.error(first + row, f"{problem}: {lines[row].strip()[:80]!r}")
            yield _checked(
                PredictionBatch(
                    source=source,
                    first=first,
                    image_ids=values[:, 0].astype(np.int64).tolist(),
                    videos=[None] * len(lines),
                    category_ids=values[:, 1].astype(np.int64),
                    boxes=values[:, 3:],
                    scores=values[:, 2],
                )
            )


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
    nothing = np.zeros(len(batch.scores), int)
    bad = Detections(nothing, batch.boxes, batch.scores, nothing).find_bad()
    if bad is not None:
        raise batch.error(*bad)
    return batch
