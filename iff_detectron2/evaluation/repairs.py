"""What it would be worth to repair one kind of error: its dAP, after TIDE.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (ECCV 2020): one
kind of error is repaired by an oracle, all else stays, and the mean average precision is computed
again. The gains do not add up to what is missing to 1, since errors hide each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth

from .average_precision import mean_over_classes
from .error_breakdown import CLASS, KINDS, LOCALISATION, kinds_of_errors
from .matching import Matches, match_detections
from .protocols import (
    ALL_BOXES,
    MOTION_RANGES,
    EvaluationRange,
    boxes_to_find,
    evaluate_range,
    rows_by_class_and_score,
)

REPAIRS = (*KINDS[1:], "missed")


@dataclass(frozen=True)
class RepairGains:
    """Gain of mAP50 by the repair of each kind of error.

    Attributes:
        ranges: "all", and the motion categories where the motion of the boxes is known.
        values: shape [5, R], gain by repair of the kinds in `REPAIRS`, in [-1, 1]; nan in a range
            without boxes.
    """

    ranges: Sequence[str]
    values: np.ndarray


def repair_gains(
    ground_truth: GroundTruth, detections: Detections, progress: bool = False
) -> RepairGains:
    """Repair each kind of error alone and see what mAP50 gains, by the rules of protocol `fgfa`.

    All unmatched detections count, whatever their score; their kinds are those of
    `ErrorBreakdown`. The repairs:

    - localisation and class: the detection gets the box, or the class of the box, that it is near;
      of several that get the same box the best score does, and where that box is taken already
      none does: the others are removed;
    - duplicate and background: the detection is removed;
    - missed: a box that is matched to nothing, and that neither of the first two repairs would
      give a detection, is not asked for. A class of which nothing is asked for any more has 1.

    Args:
        ground_truth: boxes of all listed frames, in any order.
        detections: checked detections of the same frames, in any order.
        progress: show a progress bar.
    """
    truth, detections = ground_truth.sorted_by_frame(), detections.sorted_by_frame()
    known = truth.motion_iou is not None
    ranges = (ALL_BOXES, *(MOTION_RANGES if known else ()))
    motions = [wanted.motion for wanted in ranges]
    matches = match_detections(truth, detections, motions if known else None, progress)

    by_class = rows_by_class_and_score(detections, len(truth.class_names))
    before = _class_aps(truth, detections, matches, by_class, ranges)
    unmatched = np.flatnonzero(matches.boxes < 0)
    kinds, targets = kinds_of_errors(truth, detections, unmatched)
    taken = np.zeros(len(truth), dtype=bool)
    taken[matches.boxes[matches.boxes >= 0]] = True
    reached = taken.copy()
    gains = []
    for number in range(1, len(KINDS)):
        wrong, boxes = unmatched[kinds == number], targets[kinds == number]
        # No hit and no weight as a false alarm: as good as removed.
        changed = replace(matches, boxes=matches.boxes.copy())
        classes, rows = detections.classes, by_class
        if number in (LOCALISATION, CLASS):
            best = _best_of_free_boxes(detections.scores[wrong], boxes, taken)
            reached[boxes[best]] = True
            changed.boxes[wrong[best]] = boxes[best]
            if number == CLASS:
                classes = classes.copy()
                classes[wrong[best]] = truth.classes[boxes[best]]
        found = replace(detections, classes=classes)
        if number == CLASS:
            rows = rows_by_class_and_score(found, len(truth.class_names))
        gains.append(_class_aps(truth, found, changed, rows, ranges, wrong) - before)
    missed = boxes_to_find(truth, ALL_BOXES) & ~reached
    left = replace(truth, ignored=truth.ignored | missed)
    after = _class_aps(left, detections, matches, by_class, ranges)
    gains.append(np.where(np.isnan(after), 1.0, after) - before)
    means = [[mean_over_classes(of_range) for of_range in gain] for gain in gains]
    names = [wanted.name or "all" for wanted in ranges]
    return RepairGains(names, np.array(means))


def _class_aps(
    truth: GroundTruth,
    detections: Detections,
    matches: Matches,
    by_class: Sequence[np.ndarray],
    ranges: Sequence[EvaluationRange],
    weightless: np.ndarray | slice = slice(0),
) -> np.ndarray:
    """Return the AP of each class in each range, [R, K].

    Args:
        truth: boxes sorted by frame.
        detections: detections sorted by frame.
        matches: of the two, with weights of each range.
        by_class: of `rows_by_class_and_score`.
        ranges: R of them.
        weightless: rows of detections that are no false alarms.
    """
    aps = []
    for wanted, of_range in zip(ranges, matches.false_positive, strict=True):
        weights = of_range.copy()  # of one range at a time, for the memory's sake
        weights[weightless] = 0
        one = Matches(matches.boxes, weights[None])
        aps.append(evaluate_range(truth, detections, one, [wanted.motion], by_class, wanted).ap)
    return np.stack(aps)


def _best_of_free_boxes(scores: np.ndarray, boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return which of the detections get their box: of each free one the best score, the first."""
    order = np.argsort(-scores, kind="stable")
    order = order[~taken[boxes[order]]]
    return order[np.unique(boxes[order], return_index=True)[1]]
