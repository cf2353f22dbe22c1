"""Which classes a detector takes for which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth

from .matching import match_detections


def confusion_matrix(ground_truth: GroundTruth, detections: Detections, score: float) -> np.ndarray:
    """Count what labelled boxes are detected as.

    Detections and boxes are matched by the devkit's rule as if there were one class. What is
    matched to an ignored box is left out.

    Args:
        ground_truth: boxes of all frames.
        detections: checked detections.
        score: detections with a lower one are left out.

    Returns:
        Shape [K + 1, K + 1]: row for the class of the label, the last for none (a false alarm);
        column for the class of the detection, the last for none (a miss).
    """
    truth = ground_truth.sorted_by_frame()
    found = detections[detections.scores >= score].sorted_by_frame()
    boxes = match_detections(
        replace(truth, classes=np.zeros_like(truth.classes), class_names=["any"]),
        replace(found, classes=np.zeros_like(found.classes)),
    ).boxes
    none = len(truth.class_names)
    matrix = np.zeros((none + 1, none + 1), dtype=np.int64)
    # The last entries answer for row -1, the detections that are not matched.
    labels, ignored = np.append(truth.classes, none)[boxes], np.append(truth.ignored, False)[boxes]
    np.add.at(matrix, (labels[~ignored], found.classes[~ignored]), 1)
    missed = ~truth.ignored
    missed[boxes[boxes >= 0]] = False
    np.add.at(matrix, (truth.classes[missed], none), 1)
    return matrix
