"""Saved detections read again: all at once, or video by video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from iff_detectron2.structures import NO_TRACK, Detections

from .batches import PredictionBatch, frames_of_batch, iterate_batches, result_batches
from .frame_list import Frame, FrameOrder, FrameRows, frame_of, place_of


def read_predictions_json(
    path: str | Path,
    frames: Sequence[Frame],
    category_ids: Sequence[int],
    *,
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Read COCO-style results of a dataset, as `write_predictions_json` saves them.

    Each has `image_id`, `category_id`, `bbox` (XYWH in pixels) and `score`, and maybe `track_id`;
    `video_id` and `frame_index` must be the dataset's where they are given; other fields are left
    out of account. Values are kept as float64: 72 bytes per detection.

    Args:
        path: the file.
        frames: dataset dicts, one per frame row.
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
    return _join_batches(batches, str(path), frames, category_ids, any_order, progress)


def read_predictions_text(
    path: str | Path, frames: Sequence[Frame], num_classes: int, *, progress: bool = False
) -> Detections:
    """Read FGFA's text form: frame id, class from 1, score, x1 y1 x2 y2, one detection per line.

    Frames may come in any order, as the processes of FGFA write them.

    Args:
        path: the file.
        frames: dataset dicts, one per frame row; `image_id` is the frame id.
        num_classes: number of classes of the dataset.
        progress: show a progress bar.

    Returns:
        The detections in the order of the frames.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_predictions_json`.
    """
    classes, batches = range(1, num_classes + 1), iterate_batches(path, "text")
    return _join_batches(batches, str(path), frames, classes, True, progress)


def read_predictions(
    path: str | Path,
    frames: Sequence[Frame],
    category_ids: Sequence[int],
    *,
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Read either form, `.json` as JSON and everything else as text.

    Arguments as for `read_predictions_json`.
    """
    if Path(path).suffix.lower() == ".json":
        return read_predictions_json(
            path, frames, category_ids, any_order=any_order, progress=progress
        )
    return read_predictions_text(path, frames, len(category_ids), progress=progress)


def collect_detections(
    found: str | Path | Mapping[Any, Any] | Iterable[Mapping[str, Any]],
    frames: Sequence[Frame],
    category_ids: Sequence[int],
    *,
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Bring detections of a dataset, in any form they are kept in, to the one table.

    Args:
        found: a file of either form, the list of dicts that such a JSON holds, or {image_id:
            `Instances` with `pred_boxes`, `scores` and `pred_classes`}.
        frames: dataset dicts, one per frame row.
        category_ids: the dataset's id of each class.
        any_order: let the frames of a video come in any order in a file.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file or detection cannot be used, with its place.
    """
    if isinstance(found, str | Path):
        return read_predictions(found, frames, category_ids, any_order=any_order, progress=progress)
    if isinstance(found, Mapping):
        unknown = found.keys() - {frame["image_id"] for frame in frames}
        if unknown:
            raise ValueError(f"image_id {min(unknown, key=str)!r} is not in the dataset")
        return Detections.from_instances(
            (row, found[frame["image_id"]])
            for row, frame in enumerate(frames)
            if frame["image_id"] in found
        )
    batches = result_batches(map(dict, found), "results")
    return _join_batches(batches, "results", frames, category_ids, any_order=True)


def iterate_videos(
    path: str | Path, frames: Sequence[Frame] | None = None
) -> Iterator[tuple[list[Frame], Detections]]:
    """Yield the videos of a file; one video in memory.

    A frame without detections is not in the file: it shows as a step of more than one in
    `frame_index`.

    Args:
        path: the file, of either form.
        frames: dataset dicts; a frame of the file must be one of them, and its video and position
            are theirs. FGFA's text needs them to know its videos.

    Yields:
        The frames of a video that have detections, each with `image_id`, `video_id`, `frame_index`
        and maybe `frame_number`; and the detections with rows of these frames, whose `classes` are
        the category ids in the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as for `read_predictions_json`, but categories are not checked; also if a frame
            has no video, or the frames of a video do not come one after the other in the order of
            `frame_index`.
    """
    known = None if frames is None else FrameRows(frames)
    order = FrameOrder()
    begun: list[Frame] = []
    parts: list[Detections] = []
    for batch in iterate_batches(path):
        for said, rows in frames_of_batch(batch):
            frame: Frame = said
            if known is not None and frames is not None:
                row, problem = known.find(said)
                if problem:
                    raise batch.error(rows.start, problem)
                frame = frame_of(frames[row])
            place = place_of(frame)
            if place is None:
                raise ValueError(
                    f"{path}, image_id {frame['image_id']!r}: the detections have no video_id and "
                    "frame_index; name the dataset that they are of"
                )
            if not begun or frame != begun[-1]:
                problem = order.problem(*place)
                if problem:
                    raise ValueError(f"{path}, image_id {frame['image_id']!r}: {problem}")
                if begun and str(begun[-1]["video_id"]) != place[0]:
                    yield begun, Detections.concatenate(parts)
                    begun, parts = [], []
                begun.append(frame)
            found = batch.detections[rows]
            parts.append(replace(found, frames=np.full(len(found), len(begun) - 1)))
    if begun:
        yield begun, Detections.concatenate(parts)


def _join_batches(
    batches: Iterable[PredictionBatch],
    name: str,
    frames: Sequence[Frame],
    category_ids: Sequence[int],
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Return all batches as one table; frame rows and classes are looked up batch by batch."""
    index, order = FrameRows(frames), FrameOrder()
    ids = np.array(category_ids, dtype=np.int64)
    by_id = np.argsort(ids)
    parts: list[Detections] = []
    last_row = highest_row = -1
    with tqdm(desc=f"Reading {Path(name).name}", unit="det", disable=not progress) as bar:
        for batch in batches:
            found = batch.detections
            place = by_id[np.searchsorted(ids[by_id], found.classes).clip(max=len(ids) - 1)]
            unknown = ids[place] != found.classes
            if unknown.any():
                row = int(np.argmax(unknown))
                known = ", ".join(map(str, category_ids[:30])) + ", ..." * (len(ids) > 30)
                raise batch.error(
                    row, f"category {found.classes[row]} is not one of the dataset's: {known}"
                )
            row_of_frame = np.empty(len(batch.frames), dtype=np.int32)
            for number, (said, rows) in enumerate(frames_of_batch(batch)):
                row, problem = index.find(said)
                if problem:
                    raise batch.error(rows.start, problem)
                row_of_frame[number] = row
                if row == last_row:
                    continue
                where = None if any_order else place_of(said)
                problem = "" if where is None else order.problem(*where)
                # The order of the dataset will do as well, if it is another one.
                if problem and row < highest_row:
                    raise batch.error(rows.start, problem)
                last_row, highest_row = row, max(row, highest_row)
            parts.append(
                replace(found, frames=row_of_frame[found.frames], classes=place.astype(np.int32))
            )
            bar.update(len(found))
    joined = Detections.concatenate(parts)
    if (joined.tracks() == NO_TRACK).all():
        joined = replace(joined, track_ids=None)
    return joined.sorted_by_frame()
