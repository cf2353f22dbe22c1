"""Everything that `evaluate_detections` takes gives the numbers of `VIDEvaluator`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from plain_protocol import plain_evaluate
from structures.test_boxes import plain_motion_iou
from vid_cases import CLASSES, make_dicts, noisy, nothing, run

from iff_detectron2.evaluation import (
    EvaluationDataset,
    VIDEvaluator,
    evaluate_detections,
    load_detections,
    read_predictions_json,
)
from iff_detectron2.evaluation.coco_protocol import COCO_METRICS

from .test_protocols import run_pycocotools


@pytest.mark.parametrize("protocol", ["fgfa", "devkit", "coco"])
def test_every_form_of_detections_gives_the_same_numbers(register, tmp_path, protocol):
    dicts = make_dicts()
    name = register(dicts)
    MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id = {18: 1, 17: 0}
    expected = run(VIDEvaluator(name, protocol, tmp_path), dicts, noisy)["bbox"]
    path = tmp_path / "predictions.json"
    forms = [
        path,
        str(path),
        json.loads(path.read_text()),
        {record["image_id"]: noisy(record)["instances"] for record in dicts[::-1]},
    ]
    for detections in forms:
        metrics = evaluate_detections(name, detections, protocol).metrics()
        np.testing.assert_equal(dict(metrics), dict(expected))
    dataset = EvaluationDataset.load(name, protocol)
    arrays = load_detections(dataset, path)
    for ground_truth in (dataset, dataset.ground_truth):
        metrics = evaluate_detections(ground_truth, arrays, protocol).metrics()
        np.testing.assert_equal(dict(metrics), dict(expected))


def test_nothing_in_every_form(register, tmp_path):
    dicts = make_dicts()
    name = register(dicts)
    run(VIDEvaluator(name, output_dir=tmp_path), dicts, nothing)
    forms = [
        tmp_path / "predictions.json",
        tmp_path / "predictions.txt",
        [],
        {},
        {record["image_id"]: nothing(record)["instances"] for record in dicts},
    ]
    for detections in forms:
        assert evaluate_detections(name, detections).metrics()["mAP50"] == 0.0


def test_what_does_not_fit_is_named(register):
    dicts = make_dicts()
    name = register(dicts)
    with pytest.raises(ValueError, match=r"'no_such' is not registered; known are .*" + name):
        evaluate_detections("no_such", [])
    with pytest.raises(ValueError, match="image_id 99 is not in the dataset"):
        evaluate_detections(name, {99: noisy(dicts[0])["instances"]})
    with pytest.raises(ValueError, match="results, detection 0, image_id 1: it has no 'bbox'"):
        evaluate_detections(name, [{"image_id": 1, "category_id": 0, "score": 1.0}])
    arrays = EvaluationDataset.load(name).ground_truth
    with pytest.raises(TypeError, match="Arrays as ground truth need `Detections`, not list"):
        evaluate_detections(arrays, [])
    with pytest.raises(ValueError, match="motion_iou_file needs the dataset by its name"):
        evaluate_detections(arrays, [], motion_iou_file="motion.mat")
    with pytest.raises(FileNotFoundError, match=r"motion\.mat does not exist"):
        evaluate_detections(name, [], motion_iou_file="motion.mat")


def test_the_order_of_a_dataset_that_is_not_in_video_order_is_fine(register, tmp_path):
    dicts = make_dicts()
    shuffled = [dicts[i] for i in np.random.default_rng(0).permutation(len(dicts))]
    expected = run(VIDEvaluator(register(shuffled), output_dir=tmp_path), shuffled, noisy)["bbox"]
    metrics = evaluate_detections(register(shuffled), tmp_path / "predictions.json").metrics()
    np.testing.assert_equal(dict(metrics), dict(expected))
    # A file in the order of the videos is fine as well.
    in_order = tmp_path / "in_order.json"
    saved = json.loads((tmp_path / "predictions.json").read_text())
    in_order.write_text(json.dumps(sorted(saved, key=lambda p: p["image_id"])))
    assert len(read_predictions_json(in_order, shuffled, [0, 1])) == len(saved)


def random_dicts(seed):
    """Tracks with gaps that drift at several speeds, integer boxes, empty frames, crowds."""
    generator = np.random.default_rng(seed)
    dicts = []
    for video in range(4):
        tracks = [
            (k, *generator.integers(0, 80, 2), *generator.integers(6, 50, 2), (0, 1, 7)[k])
            for k in range(3)
        ]
        for frame in range(25):
            annotations = []
            for track, x, y, w, h, speed in tracks:
                if generator.random() < 0.3 or frame == 7:
                    continue
                shake = generator.integers(-1, 2, size=2) * (track > 0)
                x1, y1 = int(x + speed * frame + shake[0]), int(y + shake[1])
                annotations.append(
                    {
                        "bbox": [x1, y1, x1 + int(w) - 1, y1 + int(h) - 1],
                        "bbox_mode": 0,
                        "category_id": track % 2,
                        "track_id": f"track{track}",
                        "iscrowd": int(generator.random() < 0.1),
                    }
                )
            dicts.append(
                {
                    "image_id": len(dicts) + 1,
                    "video_id": f"v{video}",
                    "frame_index": frame,
                    "annotations": annotations,
                }
            )
    return dicts


@pytest.mark.parametrize("seed", range(3))
def test_from_dicts_to_numbers_equals_the_slow_twin(register, tmp_path: Path, seed):
    """The whole way: track ids to motion IoU, a saved file, matching, ranges, AP."""
    dicts = random_dicts(seed)
    generator = np.random.default_rng(seed)
    results, dets = [], []
    for row, record in enumerate(dicts):
        for _ in range(5):
            near = record["annotations"]
            x1, y1, x2, y2 = near[generator.integers(len(near))]["bbox"] if near else (9, 9, 40, 40)
            dx, dy, dw, dh = generator.integers(-6, 7, size=4).tolist()
            box = (x1 + dx, y1 + dy, max(x2 + dw, x1 + dx + 1), max(y2 + dh, y1 + dy + 1))
            class_id, score = int(generator.integers(2)), float(generator.integers(1, 65)) / 64
            dets.append((row, class_id, score, box))
            results.append(
                {
                    "image_id": record["image_id"],
                    "category_id": class_id,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": score,
                }
            )
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    measured = evaluate_detections(register(dicts), path, area_ranges=True)

    pairs = [(row, a) for row, record in enumerate(dicts) for a in record["annotations"]]
    motions = plain_motion_iou(
        [
            (dicts[row]["video_id"], dicts[row]["frame_index"], a["track_id"], tuple(a["bbox"]))
            for row, a in pairs
        ]
    )
    boxes = [
        (row, a["category_id"], tuple(a["bbox"]), bool(a["iscrowd"]), motion)
        for (row, a), motion in zip(pairs, motions, strict=True)
    ]
    assert [r.positives.sum() > 0 for r in measured.ranges[:5]] == [True] * 5
    for result in measured.ranges:
        expected = plain_evaluate(len(dicts), len(CLASSES), boxes, dets, result.range)
        expected = [float("nan") if ap is None else float(ap) for ap in expected]
        np.testing.assert_allclose(result.ap, expected, rtol=0, atol=1e-12)


def decimal_coco(seed):
    """COCO annotations and results on a grid of tenths with halves: IoUs tie with thresholds."""
    generator = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(1, 31):
        for _ in range(4):
            x, y, w, h = (generator.integers([0, 0, 20, 20], [400, 400, 300, 300]) / 10).tolist()
            class_id = int(generator.integers(2))
            common = {"image_id": image_id, "category_id": class_id}
            annotations.append(
                {
                    **common,
                    "id": len(annotations) + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(generator.random() < 0.1),
                }
            )
            for box in ([x, y, round(w / 2, 2), h], [x, y, w, round(h * 0.75, 3)], [x, y, w, h]):
                score = float(generator.integers(1, 30)) / 30
                results.append({**common, "bbox": box, "score": score})
    return annotations, results


@pytest.mark.parametrize("seed", range(3))
def test_coco_equals_pycocotools_where_the_last_bit_decides(register, tmp_path, seed):
    annotations, results = decimal_coco(seed)
    images = [{"id": i} for i in range(1, 31)]
    dicts = [
        {
            "image_id": image["id"],
            "annotations": [
                {**a, "bbox_mode": BoxMode.XYWH_ABS}
                for a in annotations
                if a["image_id"] == image["id"]
            ],
        }
        for image in images
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    metrics = evaluate_detections(register(dicts), path, "coco").metrics()
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    dataset = {"images": images, "categories": categories, "annotations": annotations}
    evaluation = run_pycocotools(dataset, json.loads(path.read_text()))
    for name, value in zip(COCO_METRICS, evaluation.stats, strict=False):
        assert metrics[name] == pytest.approx(100 * value if value >= 0 else math.nan, nan_ok=True)
    assert 5 < metrics["AP50"] < 95
