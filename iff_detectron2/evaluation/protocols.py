"""The three protocols that "VID mAP" can mean, from the same arrays.

- `fgfa`: ILSVRC devkit rule with FGFA's motion ranges; the paper's numbers.
- `devkit`: ILSVRC devkit rule alone; the same as `fgfa` without ranges.
- `coco`: pycocotools' AP, AP50, AP75 and sizes.

Numbers of `coco` are not comparable with those of the other two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth
from iff_detectron2.structures.boxes import MOTION_CATEGORIES, inclusive_area

from .average_precision import RECALL_POINTS, average_precision_and_curve, mean_over_classes
from .coco_protocol import coco_average_precision
from .matching import Matches, match_detections
from .operating_point import OperatingPoints, find_operating_points
from .viewing import Viewing, measure_viewing

PROTOCOLS = ("fgfa", "devkit", "coco")
PROTOCOL_TITLES = {
    "fgfa": "FGFA (ILSVRC devkit rule: IoU 0.5, less for small boxes; FGFA's motion ranges)",
    "devkit": "ILSVRC devkit (IoU 0.5, less for small boxes)",
    "coco": "COCO (pycocotools; not comparable with fgfa and devkit)",
}
ANY_MOTION = (0.0, 1.0)
ANY_AREA = (0.0, float("inf"))


@dataclass(frozen=True)
class EvaluationRange:
    """Boxes that an average precision is computed over; both ends belong to a range.

    Attributes:
        name: suffix of the metric, `mAP50-<name>`; empty for all boxes.
        motion: lowest and highest motion IoU.
        area: lowest and highest inclusive area, pixels^2.
    """

    name: str
    motion: tuple[float, float] = ANY_MOTION
    area: tuple[float, float] = ANY_AREA

    @property
    def metric(self) -> str:
        """Name of the mean over classes in the results."""
        return f"mAP50-{self.name}" if self.name else "mAP50"


ALL_BOXES = EvaluationRange("")
MOTION_RANGES = tuple(
    EvaluationRange(name, motion=motion) for name, motion in MOTION_CATEGORIES.items()
)
AREA_RANGES = (
    EvaluationRange("area-small", area=(0.0, 50.0**2)),
    EvaluationRange("area-medium", area=(50.0**2, 150.0**2)),
    EvaluationRange("area-large", area=(150.0**2, float("inf"))),
)


@dataclass(frozen=True)
class RangeResult:
    """Average precision of one range.

    Attributes:
        range: the range.
        ap: shape [K], AP of each class in [0, 1], nan for a class without positives.
        positives: shape [K], boxes to be found of each class.
        precision: shape [K, 101], precision of each class at the recalls 0, 0.01 ... 1, nan for a
            class without positives.
        share: part of all boxes that are in the range, nan without boxes.
        unavailable: why there is no result, None if there is one.
    """

    range: EvaluationRange
    ap: np.ndarray
    positives: np.ndarray
    precision: np.ndarray
    share: float
    unavailable: str | None = None

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that have positives in the range, in [0, 1]; nan if none has."""
        return mean_over_classes(self.ap)


@dataclass(frozen=True)
class EvaluationResult:
    """Result of one protocol.

    Attributes:
        protocol: "fgfa", "devkit" or "coco".
        class_names: names of the K classes.
        ranges: one result a range, all boxes first.
        extra: further metrics in [0, 1], such as COCO's AP and AP75.
        num_frames: frames evaluated.
        num_detections: detections evaluated.
        points: scores of the best F1, by the devkit's matches.
        viewing: what a viewer notices at the best of them; None where the labels have no tracks.
    """

    protocol: str
    class_names: Sequence[str]
    ranges: Sequence[RangeResult]
    num_frames: int
    num_detections: int
    points: OperatingPoints
    viewing: Viewing | None = None
    extra: dict[str, float] = field(default_factory=dict)

    def metrics(self) -> OrderedDict[str, float]:
        """Return the metrics by name, in percent; nan where there is nothing to measure."""
        metrics = OrderedDict((r.range.metric, 100.0 * r.mean_ap) for r in self.ranges)
        metrics.update((name, 100.0 * value) for name, value in self.extra.items())
        for name, ap in zip(self.class_names, self.ranges[0].ap, strict=True):
            metrics[f"AP50-{name}"] = 100.0 * float(ap)
        return metrics


def evaluate_arrays(
    ground_truth: GroundTruth,
    detections: Detections,
    protocol: str = "fgfa",
    *,
    area_ranges: bool = False,
    ranges: Sequence[EvaluationRange] | None = None,
    progress: bool = False,
) -> EvaluationResult:
    """Score arrays of detections against arrays of ground truth.

    The core of `evaluate_detections`, which says more; needs neither Detectron2 nor a dataset.

    Args:
        ground_truth: boxes of all listed frames, in any order.
        detections: detections of the same frames, in any order.
        protocol: "fgfa", "devkit" or "coco".
        area_ranges: also report the ranges of `AREA_RANGES`.
        ranges: further ranges to report.
        progress: show a progress bar.

    Raises:
        ValueError: for an unknown protocol, a detection that cannot be scored (score or box not
            finite, width or height of zero or less, unknown category), or a range that the
            protocol does not have.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    detections.check(ground_truth.num_frames, len(ground_truth.class_names))
    wanted = list(AREA_RANGES) if area_ranges else []
    wanted += ranges or ()
    if protocol == "coco" and wanted:
        raise ValueError("Protocol 'coco' has its own sizes; it takes no area or other ranges")
    if protocol == "devkit" and any(r.motion != ANY_MOTION for r in wanted):
        raise ValueError("Protocol 'devkit' has no motion ranges; use protocol 'fgfa'")

    ground_truth, detections = ground_truth.sorted_by_frame(), detections.sorted_by_frame()
    extra: dict[str, float] = {}
    ranges = [ALL_BOXES, *(MOTION_RANGES if protocol == "fgfa" else ()), *wanted]
    # Without motion values FGFA's rule is the devkit's.
    with_motion = protocol == "fgfa" and ground_truth.motion_iou is not None
    motions = list(dict.fromkeys(r.motion for r in ranges)) if with_motion else [ANY_MOTION]
    matches = match_detections(ground_truth, detections, motions if with_motion else None, progress)
    by_class = rows_by_class_and_score(detections, len(ground_truth.class_names))
    if protocol == "coco":
        ap, precision, extra = coco_average_precision(ground_truth, detections)
        positives, share = _count_positives(ground_truth, ALL_BOXES)
        results = [RangeResult(ALL_BOXES, ap, positives, precision, share)]
    else:
        results = [
            evaluate_range(ground_truth, detections, matches, motions, by_class, wanted)
            for wanted in ranges
        ]
    points, viewing = _operate(ground_truth, detections, matches, by_class)
    return EvaluationResult(
        protocol=protocol,
        class_names=tuple(ground_truth.class_names),
        ranges=tuple(results),
        num_frames=ground_truth.num_frames,
        num_detections=len(detections),
        points=points,
        viewing=viewing,
        extra=extra,
    )


def _operate(
    ground_truth: GroundTruth,
    detections: Detections,
    matches: Matches,
    by_class: Sequence[np.ndarray],
) -> tuple[OperatingPoints, Viewing | None]:
    """Find the operating points, and measure what a viewer notices at the best of them."""
    to_find = boxes_to_find(ground_truth, ALL_BOXES)
    positives = np.bincount(ground_truth.classes[to_find], minlength=len(by_class))
    # The last entry answers for row -1, the detections that are not matched.
    hits = np.append(to_find, False)[matches.boxes]
    ignored = ~hits & (matches.boxes >= 0)
    points = find_operating_points(detections.scores, by_class, hits, ignored, positives)
    score = points.overall.score
    if np.isnan(score):
        score = 0.0
    wrong = matches.boxes < 0
    return points, measure_viewing(ground_truth, detections, matches.boxes, wrong, score)


def evaluate_range(
    ground_truth: GroundTruth,
    detections: Detections,
    matches: Matches,
    motions: Sequence[tuple[float, float]],
    rows_by_class: Sequence[np.ndarray],
    wanted: EvaluationRange,
) -> RangeResult:
    """Compute the average precision of one range from matches that are done.

    Args:
        ground_truth: boxes sorted by frame.
        detections: detections sorted by frame.
        matches: of the two.
        motions: the motion ranges that `matches` has weights of, in its order.
        rows_by_class: of `rows_by_class_and_score`.
        wanted: the range.
    """
    if wanted.motion not in motions:
        nothing = np.full(len(rows_by_class), np.nan)
        return RangeResult(
            wanted,
            nothing,
            np.zeros(len(nothing), dtype=np.int64),
            np.full((len(nothing), len(RECALL_POINTS)), np.nan),
            float("nan"),
            ground_truth.motion_note,
        )
    weights = matches.false_positive[motions.index(wanted.motion)]
    positives, share = _count_positives(ground_truth, wanted)
    # The last entry answers for row -1, the detections that are not matched.
    counts_as_hit = np.append(boxes_to_find(ground_truth, wanted), False)
    low, high = wanted.area
    ap = np.empty(len(rows_by_class))
    precision = np.empty((len(rows_by_class), len(RECALL_POINTS)))
    for class_id, rows in enumerate(rows_by_class):
        false_positive = weights[rows]
        if wanted.area != ANY_AREA:
            area = inclusive_area(detections.boxes[rows])
            false_positive = np.where((area >= low) & (area <= high), false_positive, 0.0)
        ap[class_id], precision[class_id] = average_precision_and_curve(
            counts_as_hit[matches.boxes[rows]], false_positive, int(positives[class_id])
        )
    return RangeResult(wanted, ap, positives, precision, share)


def boxes_to_find(ground_truth: GroundTruth, wanted: EvaluationRange) -> np.ndarray:
    """Return which boxes are positives of a range, [G]."""
    area = inclusive_area(ground_truth.boxes)
    selected = ~ground_truth.ignored & (area >= wanted.area[0]) & (area <= wanted.area[1])
    motion = ground_truth.motion_iou
    if motion is not None:  # without motion IoUs only ranges over any motion get here
        selected &= (motion >= wanted.motion[0]) & (motion <= wanted.motion[1])
    return selected


def _count_positives(
    ground_truth: GroundTruth, wanted: EvaluationRange
) -> tuple[np.ndarray, float]:
    """Return the positives of each class, [K], and their share of all boxes."""
    selected = boxes_to_find(ground_truth, wanted)
    positives = np.bincount(ground_truth.classes[selected], minlength=len(ground_truth.class_names))
    total = int((~ground_truth.ignored).sum())
    return positives, float(selected.sum() / total) if total else float("nan")


def rows_by_class_and_score(detections: Detections, num_classes: int) -> list[np.ndarray]:
    """Return the rows of each class by falling score, equal scores in the order given."""
    result = []
    for class_id in range(num_classes):
        rows = np.flatnonzero(detections.classes == class_id)
        order = np.argsort(-detections.scores[rows], kind="stable")
        result.append(rows[order])
    return result
