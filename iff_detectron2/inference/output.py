"""The files that a run over a video leaves: predictions, tracks and the annotated video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from iff_detectron2.predictions import (
    frame_of,
    on_tracks,
    write_predictions_csv,
    write_predictions_json,
    write_predictions_mot,
)
from iff_detectron2.structures import Detections
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.video.writer import CODECS, VideoWriter
from iff_detectron2.visualization.drawing import draw_detections
from iff_detectron2.visualization.segments import draw_regions

from .frame_output import FrameOutput, Region
from .known_data import Classes

PREDICTIONS, SUMMARY, SEGMENTS = "predictions.json", "run.json", "segments.json"
FORMATS = {"csv": ".csv", "mot": ".txt"}

# Pixels of the longer side: below the first, frames are enlarged to about the second.
_SMALL, _WATCHABLE = 480, 720


def _write_segments(
    path: Path, frames: Sequence[Mapping[str, Any]], regions: Sequence[Sequence[Region]]
) -> None:
    """Write a JSON list with a line per region."""
    with open_atomically(path) as stream:
        separator = "[\n"
        for frame, of_frame in zip(frames, regions, strict=True):
            for region in of_frame:
                stream.write(separator + json.dumps({**frame_of(frame), **region}))
                separator = ",\n"
        stream.write("\n]\n")


@dataclass(frozen=True)
class DrawingStyle:
    """What is drawn into a video, and how it is encoded.

    Attributes:
        threshold: detections with a lower score are not drawn.
        show_scores: write scores.
        codec: of `video.writer.CODECS`; the file's suffix goes with it.
    """

    threshold: float = 0.5
    show_scores: bool = True
    codec: str = "vp8"

    @property
    def file_name(self) -> str:
        """Name of the video in the folder of results."""
        return f"annotated{next(iter(CODECS[self.codec]))}"


def write_results(
    folder: Path,
    detections: Detections,
    frames: Sequence[Mapping[str, Any]],
    classes: Classes,
    formats: Sequence[str],
    summary: dict[str, Any],
    regions: Sequence[Sequence[Region]] = (),
) -> list[Path]:
    """Write predictions, tracks or detections in the formats asked for, and the summary.

    Args:
        folder: where to.
        detections: in order of the frames.
        frames: of one video, with `image_id`, `video_id` and `frame_index`.
        classes: what the class numbers stand for.
        formats: of FORMATS, beside the JSON that is always written.
        summary: content of `run.json`, after the classes.
        regions: of a semantic or panoptic segmentation, for each frame; written if there are any.

    Returns:
        The files.
    """
    paths = [folder / PREDICTIONS, folder / SUMMARY]
    write_predictions_json(paths[0], detections, frames, classes.ids)
    with open_atomically(paths[1]) as stream:
        content = {"class_names": classes.names, "category_ids": classes.ids, **summary}
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
    if any(regions):
        paths.append(folder / SEGMENTS)
        _write_segments(paths[-1], frames, regions)
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

    def __init__(
        self, path: Path, fps: float, style: DrawingStyle, class_names: Sequence[str] | None
    ) -> None:
        """
        Args:
            path: video file to write, used in a `with` statement.
            fps: frames per second.
            style: what is drawn, and how.
            class_names: name of each class number; None for the bare numbers.
        """
        self.path = path
        self._writer = VideoWriter(path, fps, style.codec)
        self._style = style
        self._names = class_names
        self._size: tuple[int, int] | None = None

    def try_out(self) -> None:
        """Raise OSError if the video cannot be written."""
        self._writer.try_out()

    def __enter__(self) -> AnnotatedVideo:
        self._writer.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._writer.__exit__(*exception)

    def write(self, frame: np.ndarray, found: FrameOutput, caption: str) -> None:
        """Append a frame, a small one enlarged; one of another size than the first is fitted into
        that, its shape kept.

        Args:
            frame: uint8 BGR [H, W, 3].
            found: in this frame.
            caption: written into a corner.
        """
        if self._size is None:
            enlarged = watchable_scale(*frame.shape[:2])
            self._size = (frame.shape[0] * enlarged, frame.shape[1] * enlarged)
        height, width = self._size
        picture = draw_detections(
            draw_regions(frame, found.regions),
            found.detections,
            self._names,
            score_threshold=self._style.threshold,
            show_scores=self._style.show_scores,
            scale=min(height / frame.shape[0], width / frame.shape[1]),
            caption=caption,
        )[:height, :width]
        below, beside = height - picture.shape[0], width - picture.shape[1]
        if below or beside:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        self._writer.write(picture)


def watchable_scale(height: int, width: int) -> int:
    """Return the whole number of times that a small picture is enlarged to be looked at."""
    longer = max(height, width)
    return max(1, round(_WATCHABLE / longer)) if longer < _SMALL else 1
