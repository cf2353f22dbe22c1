"""The files that a run over a video leaves: predictions, tracks and the annotated video."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from iff_detectron2.predictions import (
    on_tracks,
    write_predictions_csv,
    write_predictions_json,
    write_predictions_mot,
)
from iff_detectron2.structures import NO_TRACK, Detections
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.video.writer import VideoWriter
from iff_detectron2.visualization.drawing import draw_detections

from .known_data import Classes

PREDICTIONS, SUMMARY, VIDEO = "predictions.json", "run.json", "annotated.mp4"
FORMATS = {"csv": ".csv", "mot": ".txt"}


def write_results(
    folder: Path,
    detections: Detections,
    frames: Sequence[Mapping[str, Any]],
    classes: Classes,
    formats: Sequence[str],
    summary: dict[str, Any],
) -> list[Path]:
    """Write predictions, tracks or detections in the formats asked for, and the summary.

    Args:
        folder: where to.
        detections: in order of the frames.
        frames: of one video, with `image_id`, `video_id` and `frame_index`.
        classes: what the class numbers stand for.
        formats: of FORMATS, beside the JSON that is always written.
        summary: content of `run.json`, after the classes.

    Returns:
        The files.
    """
    paths = [folder / PREDICTIONS, folder / SUMMARY]
    write_predictions_json(paths[0], detections, frames, classes.ids)
    with open_atomically(paths[1]) as stream:
        content = {"class_names": classes.names, "category_ids": classes.ids, **summary}
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
    tracked = detections.track_ids is not None
    for name in formats:
        path = folder / f"{'tracks' if tracked else 'detections'}{FORMATS[name]}"
        found = on_tracks(detections, frames) if tracked else detections
        if name == "csv":
            write_predictions_csv(path, found, frames, classes.ids, classes.names)
        else:
            write_predictions_mot(path, found, frames)
        paths.append(path)
    return paths


class AnnotatedVideo:
    """Draws results into the frames of a video; a colour for each class, or for each track."""

    def __init__(self, path: Path, fps: float, threshold: float) -> None:
        """
        Args:
            path: video file to write, used in a `with` statement.
            fps: frames a second.
            threshold: detections with a lower score are not drawn.
        """
        self._writer = VideoWriter(path, fps)
        self._threshold = threshold
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> AnnotatedVideo:
        self._writer.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._writer.__exit__(*exception)

    def write(
        self,
        frame: np.ndarray,
        boxes: Any,
        scores: Any,
        labels: Any,
        names: Sequence[str] | None,
        caption: str,
    ) -> None:
        """Append a frame; one of another size than the first is fitted into that, its shape kept.

        Arguments as for `draw_detections`.
        """
        height, width = self._size or frame.shape[:2]
        self._size = (height, width)
        scale = min(height / frame.shape[0], width / frame.shape[1])
        picture = draw_detections(
            frame,
            np.asarray(boxes).reshape(-1, 4),
            np.asarray(scores),
            np.asarray(labels, dtype=int),
            names,
            score_threshold=self._threshold,
            scale=scale,
            caption=caption,
        )[:height, :width]
        below, beside = height - picture.shape[0], width - picture.shape[1]
        if below or beside:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        self._writer.write(picture)


def write_annotated_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    detections: Detections,
    class_names: Sequence[str] | None,
    num_frames: int,
    *,
    threshold: float,
    progress: bool,
) -> None:
    """Write a video with its results drawn in.

    Args:
        path: video file to write.
        frames: uint8 BGR.
        fps: frames per second.
        detections: in order of the frames.
        class_names: name of each class number; None for the bare numbers.
        num_frames: how many frames there are.
        threshold: detections with a lower score are not drawn.
        progress: show a progress bar.
    """
    labels, names = _labels(detections, class_names)
    starts = detections.row_starts(num_frames)
    numbered = enumerate(tqdm(frames, "drawing", num_frames, disable=not progress))
    with AnnotatedVideo(path, fps, threshold) as video:
        for index, frame in numbered:
            rows = slice(starts[index], starts[index + 1])
            boxes, scores = detections.boxes[rows], detections.scores[rows]
            video.write(frame, boxes, scores, labels[rows], names, str(index))


def _labels(
    detections: Detections, class_names: Sequence[str] | None
) -> tuple[np.ndarray, Sequence[str] | None]:
    """Give a number to each track and, behind these, to the class of what is on none; and names."""
    track_ids, classes = detections.track_ids, detections.classes
    if track_ids is None:
        return classes, class_names
    num_classes = int(classes.max(initial=-1)) + 1
    plain = [str(c) for c in range(num_classes)] if class_names is None else list(class_names)
    num_tracks = int(track_ids.max(initial=-1)) + 1
    names = [""] * num_tracks
    for track_id, class_id in zip(track_ids.tolist(), classes.tolist(), strict=True):
        if track_id != NO_TRACK:
            names[track_id] = f"{plain[class_id]} {track_id}"
    return np.where(track_ids != NO_TRACK, track_ids, num_tracks + classes), names + plain
