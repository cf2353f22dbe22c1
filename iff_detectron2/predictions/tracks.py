"""Tracks as files: what is on a track, in the format that the path asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from iff_detectron2.structures import NO_TRACK, Detections

from .frame_list import Frame, rows_of_videos
from .writers import (
    ClassNames,
    write_predictions_csv,
    write_predictions_json,
    write_predictions_mot,
)


def on_tracks(
    detections: Detections, frames: Sequence[Frame], least_score: float = 0.0
) -> Detections:
    """Return the detections on a track, by frame and then track.

    Args:
        detections: in any order; a track id is unique in its video.
        frames: dataset dicts, one per frame row, with `video_id`.
        least_score: leave out tracks whose mean score is lower.

    Raises:
        ValueError: if a track has two boxes in a frame.
    """
    found = detections[detections.tracks() != NO_TRACK]
    found = found[np.lexsort((found.tracks(), found.frames))]
    twice = (np.diff(found.frames) == 0) & (np.diff(found.tracks()) == 0)
    if twice.any():
        row = int(np.argmax(twice))
        frame = frames[found.frames[row]]
        raise ValueError(
            f"video {frame['video_id']!r}, frame {frame.get('frame_index')}: track "
            f"{found.tracks()[row]} has two boxes; a track has one box per frame"
        )
    track_of_row, lengths = _number_tracks(found, frames)
    means = np.bincount(track_of_row, found.scores, minlength=len(lengths)) / lengths
    return found[means[track_of_row] >= least_score]


def count_tracks(detections: Detections, frames: Sequence[Frame]) -> int:
    """Return the number of tracks of all videos; arguments as for `on_tracks`."""
    return len(_number_tracks(detections[detections.tracks() != NO_TRACK], frames)[1])


def _number_tracks(
    detections: Detections, frames: Sequence[Frame]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the track of each row, over all videos, and the length of each."""
    videos = np.empty(len(frames), dtype=np.int64)
    for number, rows in enumerate(rows_of_videos(frames).values()):
        videos[rows] = number
    pairs = np.stack([videos[detections.frames], detections.tracks()], axis=1)
    _, track_of_row, lengths = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return track_of_row.reshape(-1), lengths


def write_tracks(
    path: str | Path,
    detections: Detections,
    frames: Sequence[Frame],
    category_ids: Sequence[int] | None = None,
    class_names: ClassNames | None = None,
) -> list[Path]:
    """Write the detections on a track, in the format that the path asks for.

    `.json` (COCO-style results) and `.csv` hold any number of videos; `.txt` is a MOTChallenge
    file of one video; a path without extension is a folder of these, `<video>.txt` each.

    Args:
        path: where to write.
        detections: in any order; what is on no track is left out.
        frames: dataset dicts, one per frame row, with `video_id` and `frame_index`.
        category_ids: id in files of each class; None if `classes` are these ids.
        class_names: name of each class; None for its id.

    Returns:
        The files that were written.

    Raises:
        ValueError: for another extension, more videos than the format holds, or a track with two
            boxes in a frame.
    """
    path = Path(path)
    check_tracks_path(path)
    found = on_tracks(detections, frames)
    if path.suffix == ".json":
        write_predictions_json(path, found, frames, category_ids)
    elif path.suffix == ".csv":
        write_predictions_csv(path, found, frames, category_ids, class_names)
    elif path.suffix == ".txt":
        write_predictions_mot(path, found, frames)
    else:
        return _write_mot_folder(path, found, frames)
    return [path]


def check_tracks_path(path: str | Path) -> None:
    """Raise a ValueError if `write_tracks` has no format for a path."""
    if Path(path).suffix not in ("", ".json", ".csv", ".txt"):
        raise ValueError(
            f"{path}: tracks are written as .json, .csv or .txt (MOTChallenge), or into a folder, "
            "which is a path without extension"
        )


def _write_mot_folder(folder: Path, detections: Detections, frames: Sequence[Frame]) -> list[Path]:
    """Write `<video>.txt` each; a video id such as `val/video_1` becomes `val_video_1`."""
    paths: dict[Path, str] = {}
    videos = rows_of_videos(frames)
    for video_id in videos:
        path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', video_id)}.txt"
        if path in paths:
            raise ValueError(
                f"{path} would hold both video {paths[path]!r} and {video_id!r}; write .json or "
                ".csv instead"
            )
        paths[path] = video_id
    starts = detections.row_starts(len(frames))
    for path, video_id in paths.items():
        parts = [
            replace(part, frames=np.full(len(part), number))
            for number, row in enumerate(videos[video_id])
            for part in [detections[starts[row] : starts[row + 1]]]
        ]
        listed = [frames[row] for row in videos[video_id]]
        write_predictions_mot(path, Detections.concatenate(parts), listed)
    return list(paths)
