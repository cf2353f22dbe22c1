"""Saved detections: COCO-style JSON and FGFA's text form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from iff_detectron2.structures import NO_TRACK, Detections
from iff_detectron2.utils.files import open_atomically


def write_predictions_json(
    path: str | Path,
    detections: Detections,
    frames: Sequence[dict[str, Any]],
    category_ids: Sequence[int],
    progress: bool = False,
) -> None:
    """Save detections as a list of COCO results with video and frame.

    Each has `image_id`, `category_id`, `bbox` (XYWH in pixels, width = x2 - x1), `score`,
    `video_id` and `frame_index` where the dataset has them, and `track_id` where there is one.
    Numbers are saved in full, so that evaluating the file gives the same result.

    Args:
        path: file to write; its folder is made.
        detections: detections sorted by frame.
        frames: dataset dicts, one a frame row.
        category_ids: id in the file of each class.
        progress: show a progress bar.
    """
    starts = detections.row_starts(len(frames))
    track_ids = detections.tracks()
    with open_atomically(path) as stream:
        stream.write("[")
        separator = "\n"
        for row, frame in enumerate(tqdm(frames, desc="Saving JSON", disable=not progress)):
            head = {"image_id": frame["image_id"]}
            head.update(
                (key, frame[key])
                for key in ("video_id", "frame_index")
                if frame.get(key) is not None
            )
            rows = slice(starts[row], starts[row + 1])
            for box, score, class_id, track_id in zip(
                detections.boxes[rows].astype(float).tolist(),
                detections.scores[rows].tolist(),
                detections.classes[rows].tolist(),
                track_ids[rows].tolist(),
                strict=True,
            ):
                x1, y1, x2, y2 = box
                result = {
                    **head,
                    "category_id": category_ids[class_id],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
                if track_id != NO_TRACK:
                    result["track_id"] = track_id
                stream.write(separator + json.dumps(result))
                separator = ",\n"
        stream.write("\n]\n")


def write_predictions_text(
    path: str | Path,
    detections: Detections,
    frames: Sequence[dict[str, Any]],
    progress: bool = False,
) -> None:
    """Save detections as FGFA does: frame id, class from 1, score, x1 y1 x2 y2, one a line.

    Scores are rounded to 4 digits and boxes to 2, as vid_protocol, Evaluation 5 says.

    Args:
        path: file to write; its folder is made.
        detections: detections sorted by frame.
        frames: dataset dicts, one a frame row; `image_id` is the frame id.
        progress: show a progress bar.
    """
    starts = detections.row_starts(len(frames))
    with open_atomically(path) as stream:
        for row, frame in enumerate(tqdm(frames, desc="Saving text", disable=not progress)):
            rows = slice(starts[row], starts[row + 1])
            for box, score, class_id in zip(
                detections.boxes[rows].tolist(),
                detections.scores[rows].tolist(),
                detections.classes[rows].tolist(),
                strict=True,
            ):
                corners = " ".join(f"{value:.2f}" for value in box)
                stream.write(f"{frame['image_id']} {class_id + 1} {score:.4f} {corners}\n")
