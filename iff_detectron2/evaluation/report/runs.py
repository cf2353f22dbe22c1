"""What the report knows about a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iff_detectron2.evaluation.confusion import confusion_matrix
from iff_detectron2.evaluation.error_breakdown import ErrorBreakdown, break_down_errors
from iff_detectron2.evaluation.evaluation_dataset import EvaluationDataset
from iff_detectron2.evaluation.protocols import EvaluationResult, evaluate_arrays
from iff_detectron2.evaluation.repairs import RepairGains, repair_gains
from iff_detectron2.structures import Detections


@dataclass(frozen=True)
class Run:
    """One detector's output on the dataset, scored.

    Attributes:
        name: what it is called in the report.
        result: by the protocol of choice.
        errors: kinds of errors, by the devkit's rule whatever the protocol.
        confusion: shape [K + 1, K + 1], of `confusion_matrix` at the operating point.
        gains: what mAP50 would gain by repair of each kind of error.
    """

    name: str
    result: EvaluationResult
    errors: ErrorBreakdown
    confusion: np.ndarray
    gains: RepairGains


def score_run(
    name: str,
    dataset: EvaluationDataset,
    detections: Detections,
    protocol: str = "fgfa",
    *,
    area_ranges: bool = False,
    result: EvaluationResult | None = None,
    progress: bool = False,
) -> Run:
    """Evaluate a run, if there is no `result` yet, and break its errors down.

    Arguments are those of `evaluate_detections`.

    Args:
        name: of the run, shown in the report.
        dataset: that the detections are of.
        detections: of the run.
        protocol: `fgfa`, `devkit` or `coco`.
        area_ranges: also by size.
        result: of an evaluation that was done already.
        progress: show a progress bar.
    """
    ground_truth = dataset.ground_truth
    if result is None:
        result = evaluate_arrays(
            ground_truth, detections, protocol, area_ranges=area_ranges, progress=progress
        )
    errors = break_down_errors(ground_truth, detections, progress)
    score = result.points.overall.score
    confusion = confusion_matrix(ground_truth, detections, 0.0 if np.isnan(score) else score)
    gains = repair_gains(ground_truth, detections, progress)
    return Run(name, result, errors, confusion, gains)
