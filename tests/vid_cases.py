"""A small labelled video set and detectors of known quality on it."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from iff_detectron2.evaluation import EvaluationDataset, load_detections

CLASSES = ["cat", "dog"]
NUM_VIDEOS, VIDEO_LENGTH = 2, 6


def make_dicts():
    """Two videos: a cat that stands still, a dog that runs; the last frame of each is empty."""
    dicts = []
    for video in range(NUM_VIDEOS):
        for frame in range(VIDEO_LENGTH):
            annotations = [
                {
                    "bbox": [10, 10, 50, 40],  # x, y, w, h
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "category_id": 0,
                    "track_id": 1,
                },
                {
                    "bbox": [60 + 15 * frame, 80, 120 + 15 * frame, 130],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": 1,
                    "track_id": 2,
                },
            ]
            dicts.append(
                {
                    "file_name": f"{video}/{frame}.jpg",
                    "height": 200,
                    "width": 300,
                    "image_id": len(dicts) + 1,
                    "video_id": f"video{video}",
                    "frame_index": frame,
                    "video_length": VIDEO_LENGTH,
                    "annotations": [] if frame == VIDEO_LENGTH - 1 else annotations,
                }
            )
    return dicts


def make_instances(boxes, scores, classes):
    return Instances(
        (200, 300),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def true_boxes(record):
    return [
        BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in record["annotations"]
    ]


def perfect(record):
    classes = [a["category_id"] for a in record["annotations"]]
    return {"instances": make_instances(true_boxes(record), [0.9] * len(classes), classes)}


def nothing(record):
    return {"instances": make_instances([], [], [])}


def noisy(record):
    """Boxes off by some pixels, duplicates, wrong classes; the same for the same frame."""
    generator = np.random.default_rng(record["image_id"])
    boxes = [*true_boxes(record), *true_boxes(record), [150, 20, 190, 60]]
    boxes = np.array(boxes) + generator.uniform(-15, 15, size=(len(boxes), 4))
    scores = generator.integers(1, 10, size=len(boxes)) / 10
    return {
        "instances": make_instances(boxes.tolist(), scores, generator.integers(0, 2, len(boxes)))
    }


def run(evaluator, dicts, predict):
    evaluator.reset()
    for record in dicts:
        evaluator.process([record], [predict(record)])
    return evaluator.evaluate()


def load(dicts, predict, classes, name):
    """Register the frames, and return the dataset and what a detector finds in it."""
    DatasetCatalog.register(name, lambda: dicts)
    MetadataCatalog.get(name).thing_classes = classes
    dataset = EvaluationDataset.load(name)
    instances = {record["image_id"]: predict(record)["instances"] for record in dicts}
    return dataset, load_detections(dataset, instances)
