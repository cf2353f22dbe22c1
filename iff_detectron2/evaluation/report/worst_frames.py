"""The frames with the most errors, as small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from iff_detectron2.data import read_frame
from iff_detectron2.evaluation.error_breakdown import CORRECT, KINDS, ErrorBreakdown
from iff_detectron2.visualization.drawing import draw_boxes
from iff_detectron2.visualization.image import Color

PICTURE_WIDTH = 460
MOST_BOXES = 20
GREEN, RED, MISSED = (80, 170, 40), (40, 60, 220), (220, 80, 190)  # BGR


@dataclass(frozen=True)
class FramePicture:
    """One frame as one run sees it.

    Attributes:
        picture: JPEG, or None where the frame could not be read.
        summary: what is wrong in it.
        problem: why there is no picture, or no clip.
        clip: WebM of the frames around it; None where there are none.
    """

    picture: bytes | None
    summary: str
    problem: str = ""
    clip: bytes | None = None


def worst_frames(errors: ErrorBreakdown, frames: Sequence[dict[str, Any]], count: int) -> list[int]:
    """Choose the frames with the most errors, one of each video as long as there are enough.

    The badness of a frame is the number of its missed boxes and of its wrong detections among
    those looked at. Of frames that are equally bad, the one with the higher wrong scores goes
    first.

    Args:
        errors: of the run.
        frames: dicts with `video_id` where there is one, by frame row.
        count: frames wanted.

    Returns:
        Frame rows, the worst first; fewer than `count` if there are not so many with errors.
    """
    num_frames = errors.ground_truth.num_frames
    wrong = errors.chosen[errors.kinds != CORRECT]
    rows = errors.detections.frames[wrong]
    badness = np.bincount(rows, minlength=num_frames)
    badness += np.bincount(errors.ground_truth.frames[errors.missed], minlength=num_frames)
    scores = np.bincount(rows, errors.detections.scores[wrong], minlength=num_frames)
    order = np.lexsort((-scores, -badness))
    order = order[badness[order] > 0]
    first: list[int] = []
    others: list[int] = []
    videos: set[Any] = set()
    for row in order.tolist():
        video = frames[row].get("video_id", row)
        (others if video in videos else first).append(row)
        videos.add(video)
        if len(first) == count:
            break
    return (first + others)[:count]


def draw_frame(errors: ErrorBreakdown, frame: dict[str, Any], row: int) -> FramePicture:
    """Draw one frame: right detections green, wrong ones red with their kind, missed boxes purple.

    Args:
        errors: of the run.
        frame: dict with `file_name`.
        row: its frame row.
    """
    counts = np.bincount(errors.kinds[chosen_of(errors, row)], minlength=len(KINDS))
    missed = int(errors.missed[boxes_of(errors, row)].sum())
    parts = [f"{n} {kind}" for n, kind in zip(counts, KINDS, strict=True) if n]
    summary = ", ".join([*parts, *([f"{missed} missed"] if missed else [])])
    if "file_name" not in frame:
        return FramePicture(None, summary, "the dataset has no file_name for this frame")
    try:
        image = read_frame(frame["file_name"], "BGR")
    except (OSError, ValueError) as error:
        return FramePicture(None, summary, f"the frame cannot be read: {error}")
    picture = paint_frame(errors, image, row)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return FramePicture(jpeg.tobytes(), summary)


def paint_frame(
    errors: ErrorBreakdown, image: np.ndarray, row: int, width: int = PICTURE_WIDTH
) -> np.ndarray:
    """Return a frame with its boxes, uint8 BGR [H, width, 3].

    Args:
        errors: of the run.
        image: the frame, uint8 BGR [H, W, 3].
        row: its frame row.
        width: of the picture in pixels.
    """
    truth, detections = errors.ground_truth, errors.detections
    here = chosen_of(errors, row)
    here = here[np.argsort(-detections.scores[errors.chosen[here]], kind="stable")]
    boxes: list[np.ndarray] = []
    texts: list[list[str]] = []
    colors: list[Color] = []
    # Names from a dataset may hold line breaks, which a line of text must not.
    names = [" ".join(name.split()) for name in truth.class_names]
    for chosen, kind in zip(errors.chosen[here], errors.kinds[here], strict=True):
        text = f"{names[detections.classes[chosen]]} {detections.scores[chosen]:.2f}"
        boxes.append(detections.boxes[chosen])
        texts.append([text] if kind == CORRECT else [f"{text} {KINDS[kind]}", KINDS[kind]])
        colors.append(GREEN if kind == CORRECT else RED)
    boxes_here = boxes_of(errors, row)
    for box in boxes_here[errors.missed[boxes_here]]:
        boxes.append(truth.boxes[box])
        texts.append([f"{names[truth.classes[box]]} missed", "missed"])
        colors.append(MISSED)
    shown = slice(0, MOST_BOXES)
    return draw_boxes(
        np.ascontiguousarray(image),
        np.array(boxes[shown]).reshape(-1, 4),
        texts[shown],
        colors[shown],
        gt_boxes=truth.boxes[boxes_here],
        scale=width / image.shape[1],
        font_size=12,
    )


def chosen_of(errors: ErrorBreakdown, row: int) -> np.ndarray:
    """Places in `errors.chosen` of the detections of a frame."""
    frames = errors.detections.frames[errors.chosen]
    return np.arange(*np.searchsorted(frames, [row, row + 1]))


def boxes_of(errors: ErrorBreakdown, row: int) -> np.ndarray:
    """Rows of the labelled boxes of a frame."""
    return np.arange(*np.searchsorted(errors.ground_truth.frames, [row, row + 1]))
