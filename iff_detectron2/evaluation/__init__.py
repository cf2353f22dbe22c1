"""Evaluation of video object detection: protocols, motion IoU, Detectron2 evaluator."""

from .arrays import Detections, GroundTruth
from .dataset_ground_truth import ground_truth_from_dicts
from .evaluate import evaluate_detections, load_detections
from .evaluation_dataset import EvaluationDataset
from .motion_iou import motion_iou, read_fgfa_motion_iou
from .prediction_readers import (
    SavedFrame,
    iterate_frames,
    iterate_videos,
    read_predictions,
    read_predictions_json,
    read_predictions_text,
)
from .protocols import (
    AREA_RANGES,
    MOTION_RANGES,
    PROTOCOLS,
    EvaluationRange,
    EvaluationResult,
    evaluate_arrays,
)
from .report import format_result, save_result
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
    "SavedFrame",
    "VIDEvaluator",
    "evaluate_arrays",
    "evaluate_detections",
    "format_result",
    "ground_truth_from_dicts",
    "iterate_frames",
    "iterate_videos",
    "load_detections",
    "motion_iou",
    "read_fgfa_motion_iou",
    "read_predictions",
    "read_predictions_json",
    "read_predictions_text",
    "save_result",
]
