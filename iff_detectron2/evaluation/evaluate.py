"""Detections, fresh or saved, against a dataset in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iff_detectron2.predictions import collect_detections
from iff_detectron2.structures import Detections, GroundTruth

from .evaluation_dataset import EvaluationDataset
from .protocols import EvaluationRange, EvaluationResult, evaluate_arrays


def evaluate_detections(
    ground_truth: GroundTruth | EvaluationDataset | str,
    detections: Detections | str | Path | Mapping[Any, Any] | Iterable[Mapping[str, Any]],
    protocol: str = "fgfa",
    *,
    motion_iou_file: str | Path | None = None,
    area_ranges: bool = False,
    ranges: Sequence[EvaluationRange] | None = None,
    progress: bool = False,
) -> EvaluationResult:
    """Score any detector's output by the protocol of choice; no model is needed.

    Detections of equal score count in the order of the frames, in a frame in the order given.
    Ignored boxes may be matched, such matches count neither way, and they are not to be found.
    Source: vid_protocol, Evaluation 1-4.

    Args:
        ground_truth: name of a registered dataset, or its `EvaluationDataset`, or arrays.
        detections: a file of saved predictions (COCO-style `.json`, else FGFA's text), the list
            of dicts that such a JSON holds, {image_id: `Instances` with `pred_boxes`, `scores` and
            `pred_classes`}, or arrays. Frames that are left out have no detections.
        protocol: "fgfa", "devkit" or "coco".
        motion_iou_file: FGFA's .mat, for `ground_truth` by name; else motion IoU is from tracks.
        area_ranges: also report boxes of 0-50^2, 50^2-150^2 and over 150^2 pixels (not `coco`,
            which has sizes of its own).
        ranges: further ranges to report, e.g. motion and area together; motion needs "fgfa".
        progress: show progress bars.

    Returns:
        AP of every class and range; `metrics()` gives them by name, `format_result` as a table.
        Motion ranges without motion IoUs are marked unavailable, with the reason.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError: if arrays as ground truth are given something else than arrays as detections.
        ValueError: for an unknown dataset or protocol, a file or detection that cannot be used,
            with its place, or a range that the protocol does not have.
    """
    if isinstance(ground_truth, str):
        ground_truth = EvaluationDataset.load(ground_truth, protocol, motion_iou_file)
    elif motion_iou_file is not None:
        raise ValueError("motion_iou_file needs the dataset by its name; these are arrays already")
    if isinstance(ground_truth, EvaluationDataset):
        detections = load_detections(ground_truth, detections, progress=progress)
        ground_truth = ground_truth.ground_truth
    if not isinstance(detections, Detections):
        raise TypeError(
            f"Arrays as ground truth need `Detections`, not {type(detections).__name__}; name the "
            "registered dataset to evaluate files, results or Instances"
        )
    return evaluate_arrays(
        ground_truth,
        detections,
        protocol,
        area_ranges=area_ranges,
        ranges=ranges,
        progress=progress,
    )


def load_detections(
    dataset: EvaluationDataset,
    detections: Detections | str | Path | Mapping[Any, Any] | Iterable[Mapping[str, Any]],
    *,
    any_order: bool = False,
    progress: bool = False,
) -> Detections:
    """Bring detections of a dataset, in any form that `evaluate_detections` takes, to the table.

    Arguments and errors as for `predictions.collect_detections`.
    """
    if isinstance(detections, Detections):
        return detections
    frames, ids = dataset.frames, dataset.category_ids
    return collect_detections(detections, frames, ids, any_order=any_order, progress=progress)
