"""Saved detections read again: all at once, frame by frame, or video by video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from iff_detectron2.structures import Detections

from .batches import PredictionBatch, iterate_batches


@dataclass(frozen=True)
class SavedFrame:
    """The detections of one frame, at least one, in the order of the file.

    Attributes:
        image_id: id of the frame.
        video_id: its video; None where neither file nor dataset says.
        frame_index: position of the frame in its video, from 0; None likewise.
        boxes: shape [N, 4], float64, XYXY in pixels.
        scores: shape [N], float64.
        category_ids: shape [N], int64, as in the file: the dataset's ids in JSON, the classes
            counted from 1 in text.
    """

    image_id: Any
    video_id: str | None
    frame_index: int | None
    boxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray


def read_predictions_json(
    path: str | Path,
    frames: Sequence[dict[str, Any]],
    category_ids: Sequence[int],
    *,
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Read COCO-style results of a dataset, as `write_predictions_json` saves them.

    Each has `image_id`, `category_id`, `bbox` (XYWH in pixels) and `score`; other fields are left
    out of account, except that `video_id` and `frame_index` must be the dataset's where they are
    given. Values are kept as float64: 64 bytes a detection.

    Args:
        path: the file.
        frames: dataset dicts, one a frame row.
        category_ids: id in the file of each class.
        any_order: let the frames of a video come in any order.
        progress: show a progress bar.

    Returns:
        The detections in the order of the frames; frames without detections have no rows.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut off or malformed, a detection cannot be scored, its frame
            or category is not in the dataset, or the frames of a video are out of order.
    """
    batches = iterate_batches(path, "json")
    return join_batches(batches, str(path), frames, category_ids, any_order, progress)


def read_predictions_text(
    path: str | Path,
    frames: Sequence[dict[str, Any]],
    num_classes: int,
    *,
    progress: bool = False,
) -> Detections:
    """Read FGFA's text form: frame id, class from 1, score, x1 y1 x2 y2, one detection a line.

    Frames may come in any order, as the processes of FGFA write them.

    Args:
        path: the file.
        frames: dataset dicts, one a frame row; `image_id` is the frame id.
        num_classes: number of classes of the dataset.
        progress: show a progress bar.

    Returns:
        The detections in the order of the frames.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_predictions_json`.
    """
    classes, batches = range(1, num_classes + 1), iterate_batches(path, "text")
    return join_batches(batches, str(path), frames, classes, True, progress)


def read_predictions(
    path: str | Path,
    frames: Sequence[dict[str, Any]],
    category_ids: Sequence[int],
    *,
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Read either form, `.json` as JSON and everything else as text; arguments as for JSON."""
    if Path(path).suffix.lower() == ".json":
        return read_predictions_json(
            path, frames, category_ids, any_order=any_order, progress=progress
        )
    return read_predictions_text(path, frames, len(category_ids), progress=progress)


def iterate_frames(
    path: str | Path, frames: Sequence[dict[str, Any]] | None = None
) -> Iterator[SavedFrame]:
    """Yield the frames of a file that have detections, in its order; one batch in memory.

    Args:
        path: the file, of either form.
        frames: dataset dicts; a frame of the file must be one of them, and its video and position
            are theirs. FGFA's text needs them to know its videos.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_predictions_json`; order and categories are not checked.
    """
    index = None if frames is None else _FrameRows(frames)
    begun: SavedFrame | None = None
    for batch in iterate_batches(path):
        for rows in _runs(list(zip(batch.image_ids, batch.videos, strict=True))):
            image_id = batch.image_ids[rows.start]
            video = batch.videos[rows.start]
            if index is not None:
                video = index.video_of(index.row(batch, rows.start))
            frame = SavedFrame(
                image_id=image_id,
                video_id=None if video is None else video[0],
                frame_index=None if video is None else video[1],
                boxes=batch.boxes[rows],
                scores=batch.scores[rows],
                category_ids=batch.category_ids[rows],
            )
            if begun is not None and _key(begun) == _key(frame):
                begun = _joined(begun, frame)
                continue
            if begun is not None:
                yield begun
            begun = frame
    if begun is not None:
        yield begun


def iterate_videos(
    path: str | Path, frames: Sequence[dict[str, Any]] | None = None
) -> Iterator[tuple[str, list[SavedFrame]]]:
    """Yield (video_id, frames with detections) of a file; one video in memory.

    A frame without detections is not in the file: it shows as a step of more than one in
    `frame_index`.

    Args:
        path: the file, of either form.
        frames: dataset dicts, as for `iterate_frames`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `iterate_frames`; also if a frame has no video, or the frames of a video
            do not come one after the other in the order of `frame_index`.
    """
    order = _FrameOrder()
    video_id = ""
    begun: list[SavedFrame] = []
    for frame in iterate_frames(path, frames):
        if frame.video_id is None or frame.frame_index is None:
            raise ValueError(
                f"{path}, image_id {frame.image_id!r}: the detections have no video_id and "
                "frame_index; name the dataset that they are of"
            )
        problem = order.problem(frame.video_id, frame.frame_index)
        if problem:
            raise ValueError(f"{path}, image_id {frame.image_id!r}: {problem}")
        if begun and frame.video_id != video_id:
            yield video_id, begun
            begun = []
        video_id = frame.video_id
        begun.append(frame)
    if begun:
        yield video_id, begun


def _key(frame: SavedFrame) -> tuple[Any, str | None, int | None]:
    return frame.image_id, frame.video_id, frame.frame_index


class _FrameRows:
    """Finds the frame row of a saved detection, and what the dataset says about the frame."""

    def __init__(self, frames: Sequence[dict[str, Any]]) -> None:
        self._frames = frames
        self._row_of_image = {frame["image_id"]: row for row, frame in enumerate(frames)}

    def row(self, batch: PredictionBatch, detection: int) -> int:
        """Find the frame row; raise if the dataset has no such frame or knows it as another."""
        image_id = batch.image_ids[detection]
        row = self._row_of_image.get(image_id)
        if row is None:
            raise batch.error(
                detection,
                f"this frame is not in the dataset, whose {len(self._frames)} frames start with "
                f"image_id {self._frames[0]['image_id']!r}; are the predictions of another one?",
            )
        said, known = batch.videos[detection], self.video_of(row)
        if said is not None and known is not None and said != known:
            raise batch.error(
                detection,
                f"the file says that this is frame {said[1]} of video {said[0]!r}, the dataset "
                f"frame {known[1]} of {known[0]!r}; are the predictions of another one?",
            )
        return row

    def video_of(self, row: int) -> tuple[str, int] | None:
        """Video and position of a frame row, None if the dataset does not say."""
        video_id, index = (self._frames[row].get(key) for key in ("video_id", "frame_index"))
        return None if video_id is None or index is None else (str(video_id), index)


class _FrameOrder:
    """Looks whether videos follow one another, and the frames of each ascend."""

    def __init__(self) -> None:
        self._finished: set[str] = set()
        self._video_id: str | None = None
        self._frame_index = -1

    def problem(self, video_id: str, frame_index: int) -> str:
        """Take the next frame; what is wrong with its place, empty if nothing is."""
        problem = ""
        if video_id != self._video_id:
            if self._video_id is not None:
                self._finished.add(self._video_id)
            if video_id in self._finished:
                problem = f"video {video_id!r} goes on after another video"
            self._video_id = video_id
        elif frame_index <= self._frame_index:
            problem = f"frame {frame_index} of video {video_id!r} comes after {self._frame_index}"
        self._frame_index = frame_index
        return problem and f"frames are out of order: {problem}; sort the file by video and frame"


def _runs(ids: Sequence[Any]) -> Iterator[slice]:
    """Slices of equal neighbours."""
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or ids[end] != ids[start]:
            yield slice(start, end)
            start = end


def _joined(one: SavedFrame, two: SavedFrame) -> SavedFrame:
    """Return a frame whose detections lie in two batches."""
    names = ("boxes", "scores", "category_ids")
    parts = {name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in names}
    return replace(one, **parts)


def join_batches(
    batches: Iterable[PredictionBatch],
    name: str,
    frames: Sequence[dict[str, Any]],
    category_ids: Sequence[int],
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """All batches as arrays; frame rows and classes are looked up batch by batch.

    Args:
        batches: detections of one source.
        name: of the source.
        frames: dataset dicts, one a frame row.
        category_ids: id in the source of each class.
        any_order: let the frames of a video come in any order.
        progress: show a progress bar.

    Raises:
        ValueError: as for `read_predictions_json`.
    """
    index, order = _FrameRows(frames), _FrameOrder()
    ids = np.array(category_ids, dtype=np.int64)
    by_id = np.argsort(ids)
    parts: list[tuple[np.ndarray, ...]] = []
    sizes: list[np.ndarray] = []
    last_row = highest_row = -1
    with tqdm(desc=f"Reading {Path(name).name}", unit="det", disable=not progress) as bar:
        for batch in batches:
            place = by_id[np.searchsorted(ids[by_id], batch.category_ids).clip(max=len(ids) - 1)]
            unknown = ids[place] != batch.category_ids
            if unknown.any():
                row = int(np.argmax(unknown))
                known = ", ".join(map(str, category_ids[:30])) + ", ..." * (len(ids) > 30)
                raise batch.error(
                    row, f"category {batch.category_ids[row]} is not one of the dataset's: {known}"
                )
            rows = np.empty(len(batch.scores), dtype=np.int32)
            for run in _runs(batch.image_ids):
                row = rows[run] = index.row(batch, run.start)
                if row == last_row:
                    continue
                video = None if any_order else batch.videos[run.start]
                problem = "" if video is None else order.problem(*video)
                # The order of the dataset will do as well, if it is another one.
                if problem and row < highest_row:
                    raise batch.error(run.start, problem)
                last_row, highest_row = row, max(row, highest_row)
            parts.append((rows, batch.boxes, batch.scores, place.astype(np.int32)))
            if batch.sizes is not None:
                sizes.append(batch.sizes)
            bar.update(len(rows))
    if not parts:
        return Detections.empty()
    rows, boxes, scores, classes = (np.concatenate(values) for values in zip(*parts, strict=True))
    all_sizes = np.concatenate(sizes) if sizes else None
    return Detections(rows, boxes, scores, classes, sizes=all_sizes).sorted_by_frame()
