"""Tracks as files: JSON, CSV and the result files of MOTChallenge."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.structures import NO_TRACK
from iff_detectron2.utils.files import open_atomically

COLUMNS = (
    *("video_id", "frame_index", "track_id", "category_id", "category", "score"),
    *("x1", "y1", "x2", "y2"),
)


@dataclass(frozen=True)
class VideoTracks:
    """Boxes of a video that are on a track, one row a box; in order of frame, then track.

    Attributes:
        video_id: name of the video.
        frames: shape [N], frame in the video, 0-based.
        track_ids: shape [N]; rows with `NO_TRACK` are left out.
        boxes: shape [N, 4], XYXY in pixels.
        scores: shape [N].
        classes: shape [N].
        class_names: name of each class number, as a list or by number; None for bare numbers.
    """

    video_id: str
    frames: np.ndarray
    track_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: Sequence[str] | Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        columns = {
            "frames": np.asarray(self.frames, dtype=np.int64).reshape(-1),
            "track_ids": np.asarray(self.track_ids, dtype=np.int64).reshape(-1),
            "boxes": np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4),
            "scores": np.asarray(self.scores, dtype=np.float64).reshape(-1),
            "classes": np.asarray(self.classes, dtype=np.int64).reshape(-1),
        }
        if len({len(column) for column in columns.values()}) > 1:
            lengths = ", ".join(f"{len(column)} {name}" for name, column in columns.items())
            raise ValueError(f"video {self.video_id!r}: the numbers of rows differ: {lengths}")
        order = np.lexsort((columns["track_ids"], columns["frames"]))
        order = order[columns["track_ids"][order] != NO_TRACK]
        for name, column in columns.items():
            object.__setattr__(self, name, column[order])
        twice = (np.diff(self.frames) == 0) & (np.diff(self.track_ids) == 0)
        if twice.any():
            row = int(np.argmax(twice))
            raise ValueError(
                f"video {self.video_id!r}, frame {self.frames[row]}: track {self.track_ids[row]} "
                "has two boxes; a track has one box a frame"
            )

    @classmethod
    def from_instances(
        cls,
        video_id: str,
        frames: Iterable[tuple[int, Any]],
        class_names: Sequence[str] | Mapping[int, str] | None = None,
    ) -> VideoTracks:
        """Collect the tracks of (frame index, Instances), as `VideoPredictor` puts them out.

        Args:
            video_id: name of the video.
            frames: `Instances` with `pred_boxes`, `scores`, `pred_classes` and `track_ids`.
            class_names: name of each class.
        """
        rows: list[tuple[int, int, list[float], float, int]] = []
        for index, instances in frames:
            columns = (
                instances.track_ids.tolist(),
                instances.pred_boxes.tensor.tolist(),
                instances.scores.tolist(),
                instances.pred_classes.tolist(),
            )
            rows += [(index, *values) for values in zip(*columns, strict=True)]
        indices, track_ids, boxes, scores, classes = (
            map(np.array, zip(*rows, strict=True)) if rows else (np.empty(0),) * 5
        )
        return cls(video_id, indices, track_ids, boxes, scores, classes, class_names)

    def with_score(self, least: float) -> VideoTracks:
        """Return the tracks whose mean score is at least `least`, whole."""
        _, track_of_row, lengths = np.unique(
            self.track_ids, return_inverse=True, return_counts=True
        )
        means = np.bincount(track_of_row, self.scores, minlength=len(lengths)) / lengths
        rows = means[track_of_row] >= least
        columns = ("frames", "track_ids", "boxes", "scores", "classes")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def category(self, class_id: int) -> str:
        """Name of a class; its number where it has none."""
        return str(class_id) if self.class_names is None else self.class_names[class_id]


def write_tracks(path: str | Path, videos: Sequence[VideoTracks]) -> list[Path]:
    """Write tracks in the form that the path asks for.

    `.json` and `.csv` hold any number of videos; `.txt` is a MOTChallenge result file of one
    video; a path without extension is a folder of these, `<video>.txt` each.

    Returns:
        The files that were written.

    Raises:
        ValueError: another extension, or more or fewer videos than the form holds.
    """
    path = Path(path)
    check_tracks_path(path)
    if path.suffix == ".json":
        write_tracks_json(path, videos)
    elif path.suffix == ".csv":
        write_tracks_csv(path, videos)
    elif path.suffix == ".txt":
        if len(videos) != 1:
            raise ValueError(
                f"{path}: a MOTChallenge file holds one video, not {len(videos)}; give a folder, "
                "which is a path without extension"
            )
        write_tracks_mot(path, videos[0])
    else:
        return _write_mot_folder(path, videos)
    return [path]


def check_tracks_path(path: str | Path) -> None:
    """Raise a ValueError if `write_tracks` has no form for a path."""
    if Path(path).suffix not in ("", ".json", ".csv", ".txt"):
        raise ValueError(
            f"{path}: tracks are written as .json, .csv or .txt (MOTChallenge), or into a folder, "
            "which is a path without extension"
        )


def write_tracks_json(path: str | Path, videos: Sequence[VideoTracks]) -> None:
    """Write `{"videos": [{"video_id", "tracks": [...]}]}`.

    A track has `track_id`, `category_id`, `category`, `score` (mean of its boxes), and `boxes` with
    `frame_index` from 0, `bbox` (XYWH in pixels, width = x2 - x1) and `score`.
    """
    content = {"videos": [_video_to_json(video) for video in videos]}
    with open_atomically(path) as stream:
        json.dump(content, stream, allow_nan=False)
        stream.write("\n")


def write_tracks_csv(path: str | Path, videos: Sequence[VideoTracks]) -> None:
    """Write one line a box, with `COLUMNS` in the first line; frames count from 0."""
    with open_atomically(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for video in videos:
            for frame, track, box, score, class_id in _rows(video):
                writer.writerow(
                    (video.video_id, frame, track, class_id, video.category(class_id), score, *box)
                )


def write_tracks_mot(path: str | Path, video: VideoTracks) -> None:
    """Write a result file of MOTChallenge: `frame,id,left,top,width,height,conf,-1,-1,-1`.

    Frames count from 1, as the format wants; corners stay as they are, as in
    `register_mot_challenge`. The format has no class.
    """
    with open_atomically(path) as stream:
        for frame, track, (x1, y1, x2, y2), score, _ in _rows(video):
            numbers = ",".join(f"{value:.2f}" for value in (x1, y1, x2 - x1, y2 - y1))
            stream.write(f"{frame + 1},{track},{numbers},{score:.4f},-1,-1,-1\n")


def _rows(video: VideoTracks) -> Iterable[tuple[int, int, list[float], float, int]]:
    return zip(
        video.frames.tolist(),
        video.track_ids.tolist(),
        video.boxes.tolist(),
        video.scores.tolist(),
        video.classes.tolist(),
        strict=True,
    )


def _video_to_json(video: VideoTracks) -> dict[str, Any]:
    tracks: dict[int, dict[str, Any]] = {}
    for frame, track_id, (x1, y1, x2, y2), score, class_id in _rows(video):
        track = tracks.setdefault(
            track_id,
            {
                "track_id": track_id,
                "category_id": class_id,
                "category": video.category(class_id),
                "score": 0.0,
                "boxes": [],
            },
        )
        box = [x1, y1, x2 - x1, y2 - y1]
        track["boxes"].append({"frame_index": frame, "bbox": box, "score": score})
    for track in tracks.values():
        track["score"] = float(np.mean([box["score"] for box in track["boxes"]]))
    return {
        "video_id": video.video_id,
        "tracks": [track for _, track in sorted(tracks.items())],
    }


def _write_mot_folder(folder: Path, videos: Sequence[VideoTracks]) -> list[Path]:
    """Write `<video>.txt` each; a video id such as `val/video_1` becomes `val_video_1`."""
    paths: dict[Path, VideoTracks] = {}
    for video in videos:
        path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', video.video_id)}.txt"
        if path in paths:
            raise ValueError(
                f"{path} would hold both video {paths[path].video_id!r} and {video.video_id!r}; "
                "write .json or .csv instead"
            )
        paths[path] = video
    for path, video in paths.items():
        write_tracks_mot(path, video)
    return list(paths)
