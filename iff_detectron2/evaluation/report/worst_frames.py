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
        problem: why there is no picture.
    """

    picture: bytes | None
    summary: str
    problem: str = ""


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
    truth, detections = errors.ground_truth, errors.detections
    here = np.flatnonzero(detections.frames[errors.chosen] == row)
    here = here[np.argsort(-detections.scores[errors.chosen[here]], kind="stable")]
    boxes_here = np.flatnonzero(truth.frames == row)
    missed = boxes_here[errors.missed[boxes_here]]
    counts = np.bincount(errors.kinds[here], minlength=len(KINDS))
    parts = [f"{n} {kind}" for n, kind in zip(counts, KINDS, strict=True) if n]
    summary = ", ".join([*parts, *([f"{len(missed)} missed"] if len(missed) else [])])
    if "file_name" not in frame:
        return FramePicture(None, summary, "the dataset has no file_name for this frame")
    try:
        image = read_frame(frame["file_name"], "BGR")
    except (OSError, ValueError) as error:
        return FramePicture(None, summary, f"the frame cannot be read: {error}")

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
    for box in missed:
        boxes.append(truth.boxes[box])
        texts.append([f"{names[truth.classes[box]]} missed", "missed"])
        colors.append(MISSED)
    shown = slice(0, MOST_BOXES)
    picture = draw_boxes(
        np.ascontiguousarray(image),
        np.array(boxes[shown]).reshape(-1, 4),
        texts[shown],
        colors[shown],
        gt_boxes=truth.boxes[boxes_here],
        scale=PICTURE_WIDTH / image.shape[1],
        font_size=12,
    )
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return FramePicture(jpeg.tobytes(), summary)
