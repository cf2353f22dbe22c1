"""The files that a run over a video leaves: predictions, tracks and the annotated video."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from iff_detectron2.evaluation import Detections
from iff_detectron2.postprocessing import VideoTracks, write_tracks
from iff_detectron2.predictions.tracks import COLUMNS
from iff_detectron2.predictions.writers import write_predictions_json
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.video.writer import VideoWriter
from iff_detectron2.visualization.drawing import draw_detections

PREDICTIONS, SUMMARY, VIDEO = "predictions.json", "run.json", "annotated.mp4"
FORMATS = {"csv": ".csv", "mot": ".txt"}


@dataclass(frozen=True)
class VideoResults:
    """What was found in a video.

    Attributes:
        name: of the video.
        num_frames: frames that were looked at.
        detections: in order of the frames.
        class_names: name of each class number; None for the bare numbers.
        track_ids: shape [N], negative for none; None where there was no tracking.
    """

    name: str
    num_frames: int
    detections: Detections
    class_names: Sequence[str] | None
    track_ids: np.ndarray | None = None

    def category(self, class_id: int) -> str:
        """Name of a class, its number where it has none."""
        return str(class_id) if self.class_names is None else self.class_names[class_id]


def write_results(
    folder: Path, results: VideoResults, formats: Sequence[str], summary: dict[str, Any]
) -> list[Path]:
    """Write predictions, tracks or detections in the formats asked for, and the summary.

    Args:
        folder: where to.
        results: what was found.
        formats: of FORMATS, beside the JSON that is always written.
        summary: goes into `run.json`, after what the results say of themselves.

    Returns:
        The files.
    """
    frames = [
        {"image_id": t, "video_id": results.name, "frame_index": t}
        for t in range(results.num_frames)
    ]
    detections = results.detections
    num_classes = int(detections.classes.max(initial=-1)) + 1
    paths = [folder / PREDICTIONS, folder / SUMMARY]
    write_predictions_json(
        paths[0], detections, frames, range(num_classes), track_ids=results.track_ids
    )
    with open_atomically(paths[1]) as stream:
        content = {
            "video": results.name,
            "frames": results.num_frames,
            "class_names": results.class_names and list(results.class_names),
            **summary,
        }
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
    for name in formats:
        if results.track_ids is None:
            path = folder / f"detections{FORMATS[name]}"
            (_write_csv if name == "csv" else _write_mot)(path, results)
        else:
            path = folder / f"tracks{FORMATS[name]}"
            write_tracks(path, [_tracks(results, results.track_ids)])
        paths.append(path)
    return paths


def _tracks(results: VideoResults, track_ids: np.ndarray) -> VideoTracks:
    d = results.detections
    return VideoTracks(
        results.name, d.frames, track_ids, d.boxes, d.scores, d.classes, results.class_names
    )


def _rows(detections: Detections) -> Iterable[tuple[int, list[float], float, int]]:
    columns = (detections.frames, detections.boxes, detections.scores, detections.classes)
    return zip(*(column.tolist() for column in columns), strict=True)


def _write_csv(path: Path, results: VideoResults) -> None:
    """One line a detection, in the columns of a file of tracks, without a track."""
    with open_atomically(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for frame, box, score, class_id in _rows(results.detections):
            head = (results.name, frame, "", class_id, results.category(class_id))
            writer.writerow((*head, score, *box))


def _write_mot(path: Path, results: VideoResults) -> None:
    """Return a detection file of MOTChallenge: frames from 1, id -1, no class."""
    with open_atomically(path) as stream:
        for frame, (x1, y1, x2, y2), score, _ in _rows(results.detections):
            box = ",".join(f"{value:.2f}" for value in (x1, y1, x2 - x1, y2 - y1))
            stream.write(f"{frame + 1},-1,{box},{score:.4f},-1,-1,-1\n")


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
    results: VideoResults,
    *,
    threshold: float,
    progress: bool,
) -> None:
    """Write a video with its results drawn in.

    Args:
        path: video file to write.
        frames: uint8 BGR, as many as the results have.
        fps: frames a second.
        results: what was found.
        threshold: detections with a lower score are not drawn.
        progress: show a progress bar.
    """
    detections, names = results.detections, results.class_names
    labels: np.ndarray = detections.classes
    if results.track_ids is not None:
        labels, names = _track_labels(results, results.track_ids)
    starts = detections.row_starts(results.num_frames)
    numbered = enumerate(tqdm(frames, "drawing", results.num_frames, disable=not progress))
    with AnnotatedVideo(path, fps, threshold) as video:
        for index, frame in numbered:
            rows = slice(starts[index], starts[index + 1])
            boxes, scores = detections.boxes[rows], detections.scores[rows]
            video.write(frame, boxes, scores, labels[rows], names, str(index))


def _track_labels(results: VideoResults, track_ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Numbers each track, and behind them each class for what is on none; and their names."""
    classes = results.detections.classes
    num_tracks = int(track_ids.max(initial=-1)) + 1
    names = [""] * num_tracks
    for track_id, class_id in zip(track_ids.tolist(), classes.tolist(), strict=True):
        if track_id >= 0:
            names[track_id] = f"{results.category(class_id)} {track_id}"
    names += [results.category(c) for c in range(int(classes.max(initial=-1)) + 1)]
    return np.where(track_ids >= 0, track_ids, num_tracks + classes), names
