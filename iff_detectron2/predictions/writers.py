"""Saved detections, one writer per format: COCO-style JSON, FGFA's text, CSV and MOTChallenge."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from iff_detectron2.structures import NO_TRACK, Detections
from iff_detectron2.utils.files import open_atomically

from .frame_list import Frame, frame_of, number_of

CSV_COLUMNS = (
    *("video_id", "frame_index", "frame_number", "track_id", "category_id", "category", "score"),
    *("x1", "y1", "x2", "y2"),
)
ROWS_AT_ONCE = 1 << 16
ClassNames = Sequence[str] | Mapping[int, str]


@contextmanager
def open_predictions_json(
    path: str | Path,
) -> Iterator[Callable[[Detections, Sequence[Frame], Sequence[int] | None], None]]:
    """Open a file of COCO-style results that is written part by part.

    Yields:
        A function that appends detections; its arguments are those of `write_predictions_json`.
    """
    with open_atomically(path) as stream:
        separator = "[\n"

        def append(
            detections: Detections, frames: Sequence[Frame], category_ids: Sequence[int] | None
        ) -> None:
            nonlocal separator
            for text in _json_results(detections, frames, category_ids):
                stream.write(separator + text)
                separator = ",\n"

        yield append
        stream.write("\n]\n" if separator == ",\n" else "[\n]\n")


def write_predictions_json(
    path: str | Path,
    detections: Detections,
    frames: Sequence[Frame],
    category_ids: Sequence[int] | None = None,
    progress: bool = False,
) -> None:
    """Save detections as a list of COCO results with video and frame.

    Each has `image_id`, `video_id`, `frame_index` and `frame_number` where the frames have them,
    `category_id`, `bbox` (XYWH in pixels, width = x2 - x1), `score`, and `track_id` where there is
    one, `segmentation` and `keypoints` where the detector gives masks and keypoints, as COCO has
    them. Numbers are saved in full, so that evaluating the file gives the same result.

    Args:
        path: file to write; its folder is made.
        detections: detections sorted by frame.
        frames: dataset dicts, one per frame row.
        category_ids: id in the file of each class; None if `classes` are these ids.
        progress: show a progress bar.
    """
    shown = tqdm(frames, desc="Saving JSON", disable=not progress)
    with open_predictions_json(path) as append:
        append(detections, shown, category_ids)  # type: ignore[arg-type]


def write_predictions_text(
    path: str | Path, detections: Detections, frames: Sequence[Frame], progress: bool = False
) -> None:
    """Save detections as FGFA does: frame id, class from 1, score, x1 y1 x2 y2, one per line.

    Scores are rounded to 4 digits and boxes to 2, as vid_protocol, Evaluation 5 says.

    Args:
        path: file to write; its folder is made.
        detections: detections sorted by frame.
        frames: dataset dicts, one per frame row; `image_id` is the frame id.
        progress: show a progress bar.
    """
    with open_atomically(path) as stream:
        for row, box, score, class_id, _ in _rows(detections, "Saving text" if progress else ""):
            corners = " ".join(f"{value:.2f}" for value in box)
            stream.write(f"{frames[row]['image_id']} {class_id + 1} {score:.4f} {corners}\n")


def write_predictions_csv(
    path: str | Path,
    detections: Detections,
    frames: Sequence[Frame],
    category_ids: Sequence[int] | None = None,
    class_names: ClassNames | None = None,
) -> None:
    """Save detections as a table with the columns of `CSV_COLUMNS`, one per line.

    `frame_index` counts from 0 in the video, `frame_number` is the source's own; `track_id` is
    empty for a detection that is on no track.

    Args:
        path: file to write; its folder is made.
        detections: detections sorted by frame.
        frames: dataset dicts, one per frame row, with `video_id` and `frame_index`.
        category_ids: id in the file of each class; None if `classes` are these ids.
        class_names: name of each class; None for its id.
    """
    with open_atomically(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row, box, score, class_id, track_id in _rows(detections):
            frame = frames[row]
            category_id = class_id if category_ids is None else category_ids[class_id]
            place = (frame["video_id"], frame["frame_index"], number_of(frame))
            track = "" if track_id == NO_TRACK else track_id
            name = category_id if class_names is None else class_names[class_id]
            writer.writerow((*place, track, category_id, name, score, *box))


def write_predictions_mot(
    path: str | Path, detections: Detections, frames: Sequence[Frame]
) -> None:
    """Save detections as MOTChallenge does: `frame,id,left,top,width,height,conf,-1,-1,-1`.

    Frames have their source's numbers; one more where these reach down to 0, since the format
    counts from 1. The id of a detection on no track is -1, and there are no classes. Corners stay
    as they are, as in `register_mot_challenge`.

    Args:
        path: file to write; its folder is made.
        detections: detections sorted by frame.
        frames: dataset dicts of the listed frames of one video, one per frame row.

    Raises:
        ValueError: if the frames are of several videos.
    """
    videos = {frame["video_id"] for frame in frames}
    if len(videos) > 1:
        raise ValueError(
            f"{path}: a MOTChallenge file holds one video, not {len(videos)}; give a folder, which "
            "is a path without extension"
        )
    shift = 1 if min(map(number_of, frames), default=1) < 1 else 0
    with open_atomically(path) as stream:
        for row, (x1, y1, x2, y2), score, _, track_id in _rows(detections):
            box = ",".join(f"{value:.2f}" for value in (x1, y1, x2 - x1, y2 - y1))
            number = number_of(frames[row]) + shift
            stream.write(f"{number},{track_id},{box},{score:.4f},-1,-1,-1\n")


def _rows(
    detections: Detections, shown_as: str = ""
) -> Iterator[tuple[int, list[float], float, int, int]]:
    """Yield frame row, box, score, class and track id of each detection, as Python's numbers."""
    # Lists of millions of rows would take more memory than the table.
    starts = range(0, len(detections), ROWS_AT_ONCE)
    for start in tqdm(starts, desc=shown_as, disable=not shown_as):
        part = detections[start : start + ROWS_AT_ONCE]
        columns = (part.frames, part.boxes, part.scores, part.classes, part.tracks())
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _json_results(
    detections: Detections, frames: Sequence[Frame], category_ids: Sequence[int] | None
) -> Iterator[str]:
    """Yield each detection as the text of a JSON object."""
    if not (np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()):
        raise ValueError("a box or score is not a finite number; JSON has no form for it")
    starts = detections.row_starts(len(frames))
    tracks = detections.tracks()
    for number, frame in enumerate(frames):
        rows = slice(starts[number], starts[number + 1])
        head = json.dumps(frame_of(frame))[:-1]
        boxes = detections.boxes[rows].astype(np.float64)
        given = detections.sizes
        sizes = boxes[:, 2:] - boxes[:, :2] if given is None else given[rows]
        for (x1, y1, _, _), (width, height), score, class_id, track_id, more in zip(
            boxes.tolist(),
            sizes.tolist(),
            detections.scores[rows].tolist(),
            detections.classes[rows].tolist(),
            tracks[rows].tolist(),
            _more(detections[rows]),
            strict=True,
        ):
            category_id = class_id if category_ids is None else category_ids[class_id]
            # As json.dumps writes them, which takes several times as long.
            track = "" if track_id == NO_TRACK else f', "track_id": {track_id}'
            yield (
                f'{head}, "category_id": {category_id}, "bbox": [{x1!r}, {y1!r}, {width!r}, '
                f'{height!r}], "score": {score!r}{track}{more}}}'
            )


def _more(detections: Detections) -> list[str]:
    """Return the part of each JSON object for its mask and its keypoints."""
    if detections.masks is None and detections.keypoints is None:
        return [""] * len(detections)
    texts = [""] * len(detections)
    if detections.masks is not None:
        texts = [f', "segmentation": {json.dumps(mask)}' for mask in detections.masks]
    if detections.keypoints is not None:
        points = detections.keypoints.astype(np.float64).reshape(len(detections), -1).tolist()
        texts = [f'{text}, "keypoints": {p}' for text, p in zip(texts, points, strict=True)]
    return texts
