"""Checks of what a detector puts out."""

from __future__ import annotations

import numpy as np


def find_bad_detection(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, num_classes: int | None = None
) -> tuple[int, str] | None:
    """Look for a detection that nothing can be done with.

    Args:
        boxes: shape [N, 4], XYXY in pixels.
        scores: shape [N].
        classes: shape [N], 0-based.
        num_classes: number of classes of the dataset; None leaves the classes unchecked.

    Returns:
        Row and description of the first bad detection, None if all are usable.
    """
    usable = np.isfinite(scores) & np.isfinite(boxes).all(axis=1)
    usable &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if num_classes is not None:
        usable &= (classes >= 0) & (classes < num_classes)
    if usable.all():
        return None
    row = int(np.argmin(usable))
    box = [float(value) for value in boxes[row]]
    if not np.isfinite(scores[row]):
        return row, f"score {scores[row]} is not a finite number"
    if num_classes is not None and not 0 <= classes[row] < num_classes:
        return row, f"category {int(classes[row])} is not one of the {num_classes} known (0-based)"
    if not np.isfinite(boxes[row]).all():
        return row, f"box {box} has a coordinate that is not a finite number"
    return row, f"box {box} (x1, y1, x2, y2) has a width or height of zero or less"
