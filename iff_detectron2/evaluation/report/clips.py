"""The worst frames in motion: what comes before and after each, with the tracks."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from iff_detectron2.data import read_frame
from iff_detectron2.evaluation.error_breakdown import ErrorBreakdown
from iff_detectron2.structures import NO_TRACK
from iff_detectron2.video.writer import VideoWriter
from iff_detectron2.visualization.image import BLACK, WHITE, Color, class_color

from .worst_frames import boxes_of, chosen_of, paint_frame

REACH = 8  # frames before and after
CLIP_WIDTH = 360  # pixels: the page holds the files, and OpenCV takes 1 to 2 bits a pixel
FRAMES_PER_SECOND = 8  # slow enough to see what happens


def clip_rows(frames: Sequence[dict[str, Any]], row: int) -> list[int]:
    """Return the rows of the frames around one, of the same video, by frame index.

    Args:
        frames: of the dataset, by row.
        row: of the frame in the middle.
    """
    place = frames[row]
    if place.get("video_id") is None or place.get("frame_index") is None:
        return [row]
    near = range(max(0, row - 2 * REACH), min(len(frames), row + 2 * REACH + 1))
    rows = [
        other
        for other in near
        if frames[other].get("video_id") == place["video_id"]
        and abs(frames[other].get("frame_index", np.inf) - place["frame_index"]) <= REACH
    ]
    return sorted(rows, key=lambda other: frames[other]["frame_index"])


def make_clip(errors: ErrorBreakdown, frames: Sequence[dict[str, Any]], row: int) -> bytes | None:
    """Draw the frames around one as a video in WebM.

    What is drawn is that of the still picture, and where each object has been since the clip
    began: a white line for each labelled track, a coloured one for each track of the detections.

    Args:
        errors: of the run.
        frames: of the dataset, by row.
        row: of the frame in the middle.

    Returns:
        The file; None where there is no second frame of the video, or frames differ in size.

    Raises:
        OSError, ValueError: if a frame cannot be read, or this OpenCV writes no WebM.
    """
    rows = clip_rows(frames, row)
    if len(rows) < 2 or any("file_name" not in frames[other] for other in rows):
        return None
    paths: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "clip.webm")
        with VideoWriter(file, FRAMES_PER_SECOND) as writer:
            size = None
            for other in rows:
                image = read_frame(frames[other]["file_name"], "BGR")
                if size not in (None, image.shape):
                    return None
                size = image.shape
                picture = paint_frame(errors, image, other, CLIP_WIDTH)
                for name, centre in _centres(errors, other):
                    paths[name].append(centre)
                _draw_paths(picture, paths, picture.shape[1] / image.shape[1])
                writer.write(picture)
        return file.read_bytes()


def _centres(errors: ErrorBreakdown, row: int) -> Iterable[tuple[tuple[str, int], np.ndarray]]:
    """Yield track and centre of the labels, and of the detections that are looked at."""
    truth = errors.ground_truth
    if truth.tracks is not None:
        for box in boxes_of(errors, row):
            yield ("label", int(truth.tracks[box])), _centre(truth.boxes[box])
    found = errors.detections[errors.chosen[chosen_of(errors, row)]]
    for track, box in zip(found.tracks().tolist(), found.boxes, strict=True):
        if track != NO_TRACK:
            yield ("found", track), _centre(box)


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def _draw_paths(
    picture: np.ndarray, paths: dict[tuple[str, int], list[np.ndarray]], scale: float
) -> None:
    """Draw where each track has been, the labels below."""
    for (kind, track), centres in sorted(paths.items(), key=lambda item: item[0][0] == "found"):
        color: Color = WHITE if kind == "label" else class_color(track)
        points = np.rint(np.array(centres) * scale).astype(np.int32).reshape(-1, 1, 2)
        for ink, width in ((BLACK, 3), (color, 1)):  # a seam, to be seen on any background
            cv2.polylines(picture, [points], isClosed=False, color=ink, thickness=width)
