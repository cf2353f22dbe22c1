"""COCO's average precision of video detections, by pycocotools itself."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth

COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def coco_average_precision(
    ground_truth: GroundTruth, detections: Detections
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Run pycocotools on the arrays, with its own defaults (100 detections an image).

    COCO's conventions apply: widths without the inclusive +1, ignored boxes as crowds, sizes by the
    annotated area (of the mask) where there is one.

    Args:
        ground_truth: boxes of all listed frames.
        detections: checked detections.

    Returns:
        AP50 of each class, [K], its precision at COCO's 101 recalls, [K, 101], and COCO's summary
        by the names of `COCO_METRICS`; all in [0, 1], nan without positives.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = [{"id": frame} for frame in range(ground_truth.num_frames)]
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(ground_truth.class_names)]

    def index(annotations: list[dict[str, object]]) -> COCO:
        coco = COCO()
        coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
        coco.createIndex()
        return coco

    # pycocotools reports by print; its text would stand between two tables of ours.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            index(ground_truth_annotations(ground_truth)),
            index(detection_annotations(detections)),
            "bbox",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    # precision: [IoU thresholds, recalls, classes, areas, max detections]; -1 without positives.
    at_50 = int(np.argmin(np.abs(evaluation.params.iouThrs - 0.5)))
    precision = evaluation.eval["precision"][at_50, :, :, 0, -1].T
    precision = np.where((precision > -1).all(axis=1, keepdims=True), precision, np.nan)
    summary = {
        name: float(value) if value >= 0 else float("nan")
        for name, value in zip(COCO_METRICS, evaluation.stats, strict=False)
    }
    return precision.mean(axis=1), precision, summary


def ground_truth_annotations(ground_truth: GroundTruth) -> list[dict[str, object]]:
    """Return the boxes as COCO annotations; image ids are frame rows, categories 1-based."""
    boxes = _to_xywh(ground_truth)
    areas = boxes[:, 2] * boxes[:, 3] if ground_truth.areas is None else ground_truth.areas
    return [
        {
            "id": row + 1,
            "image_id": int(frame),
            "category_id": int(class_id) + 1,
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(ignored),
        }
        for row, (frame, box, area, class_id, ignored) in enumerate(
            zip(
                ground_truth.frames,
                boxes,
                areas,
                ground_truth.classes,
                ground_truth.ignored,
                strict=True,
            )
        )
    ]


def detection_annotations(detections: Detections) -> list[dict[str, object]]:
    """Return the detections as COCO results, with the fields that `COCO.loadRes` adds."""
    boxes = _to_xywh(detections)
    return [
        {
            "id": row + 1,
            "image_id": int(frame),
            "category_id": int(class_id) + 1,
            "bbox": box.tolist(),
            "score": float(score),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for row, (frame, box, class_id, score) in enumerate(
            zip(detections.frames, boxes, detections.classes, detections.scores, strict=True)
        )
    ]


def _to_xywh(arrays: GroundTruth | Detections) -> np.ndarray:
    """Boxes as COCO has them, [N, 4]; sizes to the last bit as given, which decides ties."""
    boxes = np.array(arrays.boxes, dtype=np.float64)
    boxes[:, 2:] = boxes[:, 2:] - boxes[:, :2] if arrays.sizes is None else arrays.sizes
    return boxes
