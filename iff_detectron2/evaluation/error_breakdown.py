"""What kind of mistakes a detector makes: localisation, class, duplicate, background, missed.

Counting errors needs a choice of detections. As in Hoiem et al., "Diagnosing Error in Object
Detectors" (ECCV 2012), of each class as many are looked at, by falling score, as it has boxes to
find: a perfect detector makes no error then, and no score threshold has to be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth
from iff_detectron2.structures.boxes import inclusive_iou

from .matching import detection_box_pairs, iou_thresholds, match_detections
from .protocols import ALL_BOXES, EvaluationRange, boxes_to_find, rows_by_class_and_score

KINDS = ("correct", "localisation", "class", "duplicate", "background")
CORRECT, LOCALISATION, CLASS, DUPLICATE, BACKGROUND = range(len(KINDS))
NEAR_IOU = 0.1  # less overlap than this is background
PAIRS_PER_CHUNK = 1 << 20


@dataclass(frozen=True)
class ErrorBreakdown:
    """The chosen detections of a run and what became of them.

    A detection that is matched by the devkit's rule is correct; left out if its box is to be
    ignored. Any other is, in this order, a

    - duplicate: it overlaps a box of its class enough for a match, but that is taken;
    - class error: it overlaps a box of another class enough for a match;
    - localisation error: its IoU with a box of its class is at least 0.1;
    - background error: none of these.

    A box to find that no chosen detection is matched with is missed.

    Attributes:
        ground_truth: boxes sorted by frame.
        detections: all detections, sorted by frame.
        matched: shape [N], True where a detection is matched to a box that is not ignored.
        ignored: shape [N], True where a detection is matched to an ignored box.
        chosen: shape [M], rows of the detections that are looked at.
        kinds: shape [M], number of the kind of each, in `KINDS`.
        missed: shape [G], True for the boxes that are missed.
    """

    ground_truth: GroundTruth
    detections: Detections
    matched: np.ndarray
    ignored: np.ndarray
    chosen: np.ndarray
    kinds: np.ndarray
    missed: np.ndarray

    def counts(self) -> dict[str, int]:
        """How many of the chosen detections are of each kind, and how many boxes are missed."""
        numbers = np.bincount(self.kinds, minlength=len(KINDS))
        counts = {kind: int(number) for kind, number in zip(KINDS, numbers, strict=True)}
        return {**counts, "missed": int(self.missed.sum())}

    def missed_share(self, wanted: EvaluationRange) -> float:
        """Part of the boxes to find in a range that is missed, in [0, 1]; nan if there are none."""
        inside = boxes_to_find(self.ground_truth, wanted)
        return float(self.missed[inside].mean()) if inside.any() else float("nan")

    def by_class(self) -> np.ndarray:
        """Count of the kinds, and of missed boxes at the end, of each class: [K, 6]."""
        num_classes = len(self.ground_truth.class_names)
        table = np.zeros((num_classes, len(KINDS) + 1), dtype=np.int64)
        np.add.at(table, (self.detections.classes[self.chosen], self.kinds), 1)
        missed = self.ground_truth.classes[self.missed]
        table[:, -1] = np.bincount(missed, minlength=num_classes)
        return table


def break_down_errors(
    ground_truth: GroundTruth, detections: Detections, progress: bool = False
) -> ErrorBreakdown:
    """Tell the kinds of errors apart; see `ErrorBreakdown`.

    Args:
        ground_truth: boxes of all listed frames, in any order.
        detections: checked detections of the same frames, in any order.
        progress: show a progress bar.
    """
    ground_truth = ground_truth.sorted_by_frame()
    detections = detections.sorted_by_frame()
    boxes = match_detections(ground_truth, detections, progress=progress).boxes
    # The last entry answers for row -1, the detections that are not matched.
    ignored = np.append(ground_truth.ignored, False)[boxes]
    to_find = boxes_to_find(ground_truth, ALL_BOXES)
    positives = np.bincount(ground_truth.classes[to_find], minlength=len(ground_truth.class_names))
    by_class = rows_by_class_and_score(detections, len(positives))
    chosen = np.sort(
        np.concatenate(
            [rows[~ignored[rows]][:count] for rows, count in zip(by_class, positives, strict=True)]
        )
    )
    missed = to_find.copy()
    found = boxes[chosen]
    missed[found[found >= 0]] = False
    kinds = np.full(len(chosen), CORRECT, dtype=np.int8)
    wrong = np.flatnonzero(found < 0)
    kinds[wrong] = kinds_of_errors(ground_truth, detections, chosen[wrong])[0]
    return ErrorBreakdown(
        ground_truth=ground_truth,
        detections=detections,
        matched=(boxes >= 0) & ~ignored,
        ignored=ignored,
        chosen=chosen,
        kinds=kinds,
        missed=missed,
    )


def kinds_of_errors(
    ground_truth: GroundTruth, detections: Detections, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tell what is wrong with unmatched detections, and which box each should have had.

    Args:
        ground_truth: boxes sorted by frame.
        detections: detections sorted by frame.
        rows: shape [M], of the unmatched ones, ascending.

    Returns:
        The number of the kind of each, in `KINDS`, and the row of the box that makes it of that
        kind, of several the one with the highest IoU; -1 for background. Both of shape [M].
    """
    starts = ground_truth.row_starts
    thresholds = iou_thresholds(ground_truth.boxes)
    counts = np.diff(starts)[detections.frames[rows]]
    num_chunks = int(counts.sum()) // PAIRS_PER_CHUNK + 1
    kinds, targets = [np.empty(0, dtype=np.int8)], [np.empty(0, dtype=np.int64)]
    for part in np.array_split(rows, num_chunks):
        frames = detections.frames[part]
        detection, box = detection_box_pairs(np.diff(starts)[frames], starts[frames])
        iou = inclusive_iou(detections.boxes[part][detection], ground_truth.boxes[box])
        order = np.argsort(iou, kind="stable")  # the best is written last
        detection, box, iou = detection[order], box[order], iou[order]
        same = detections.classes[part][detection] == ground_truth.classes[box]
        enough = iou >= thresholds[box]
        kind = np.full(len(part), BACKGROUND, dtype=np.int8)
        target = np.full(len(part), -1, dtype=np.int64)
        # The later ones go before the earlier ones.
        for number, fits in (
            (LOCALISATION, same & (iou >= NEAR_IOU)),
            (CLASS, ~same & enough),
            (DUPLICATE, same & enough),
        ):
            kind[detection[fits]] = number
            target[detection[fits]] = box[fits]
        kinds.append(kind)
        targets.append(target)
    return np.concatenate(kinds), np.concatenate(targets)
