"""Evaluation of video object detection: protocols, motion IoU, Detectron2 evaluator."""

from iff_detectron2.data.datasets.imagenet.motion_iou_file import read_fgfa_motion_iou
from iff_detectron2.predictions import (
    read_predictions,
    read_predictions_json,
    read_predictions_text,
)
from iff_detectron2.structures import Detections, GroundTruth
from iff_detectron2.structures.boxes import motion_iou
from iff_detectron2.utils import needs_detectron2  # noqa: F401

from .dataset_ground_truth import ground_truth_from_dicts
from .evaluate import evaluate_detections, load_detections
from .evaluation_dataset import EvaluationDataset
from .protocols import (
    AREA_RANGES,
    MOTION_RANGES,
    PROTOCOLS,
    EvaluationRange,
    EvaluationResult,
    evaluate_arrays,
)
from .tables import format_result, save_result
from .vid_evaluation import VIDEvaluator

__all__ = [
    "AREA_RANGES",
    "MOTION_RANGES",
    "PROTOCOLS",
    "Detections",
    "EvaluationDataset",
    "EvaluationRange",
    "EvaluationResult",
    "GroundTruth",
    "VIDEvaluator",
    "evaluate_arrays",
    "evaluate_detections",
    "format_result",
    "ground_truth_from_dicts",
    "load_detections",
    "motion_iou",
    "read_fgfa_motion_iou",
    "read_predictions",
    "read_predictions_json",
    "read_predictions_text",
    "save_result",
]
