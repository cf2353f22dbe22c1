from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_protocol import in_frame_order, plain_evaluate, random_case, to_arrays
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from iff_detectron2.evaluation import (
    AREA_RANGES,
    MOTION_RANGES,
    Detections,
    EvaluationRange,
    GroundTruth,
    evaluate_detections,
)

SLOW_AND_SMALL = EvaluationRange("slow-small", motion=(0.9, 1.0), area=(0.0, 2500.0))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 5, 14]), st.sampled_from([0, 40]))
def test_fgfa_equals_plain_twin(seed, num_boxes, num_dets):
    case = random_case(seed, num_boxes=num_boxes, num_dets=num_dets)
    num_frames, num_classes, boxes, dets = case
    result = evaluate_detections(
        *to_arrays(*case), "fgfa", area_ranges=True, ranges=[SLOW_AND_SMALL]
    )
    wanted = [EvaluationRange(""), *MOTION_RANGES, *AREA_RANGES, SLOW_AND_SMALL]
    assert [r.range for r in result.ranges] == wanted
    for measured in result.ranges:
        expected = plain_evaluate(
            num_frames, num_classes, boxes, in_frame_order(dets), measured.range
        )
        expected = [float("nan") if ap is None else float(ap) for ap in expected]
        np.testing.assert_allclose(measured.ap, expected, rtol=0, atol=1e-12)


def test_random_cases_are_not_trivial():
    """Guards the twin test: true and fractional false positives of every kind do occur."""
    means = []
    for seed in range(20):
        result = evaluate_detections(*to_arrays(*random_case(seed)), "fgfa")
        means.append([r.mean_ap for r in result.ranges])
    means = np.array(means)
    assert (np.nanmean(means, axis=0) > 0.05).all()
    assert (np.nanmean(means, axis=0) < 0.95).all()
    assert len(np.unique(means[~np.isnan(means)])) > 40


@pytest.mark.parametrize("seed", range(10))
def test_fgfa_over_all_motion_equals_devkit_exactly(seed):
    arrays = to_arrays(*random_case(seed, num_frames=20, num_boxes=60, num_dets=300))
    fgfa = evaluate_detections(*arrays, "fgfa").ranges[0]
    devkit = evaluate_detections(*arrays, "devkit").ranges[0]
    np.testing.assert_array_equal(fgfa.ap, devkit.ap)
    assert not np.isnan(devkit.ap).any()


def test_devkit_equals_plain_twin():
    for seed in range(20):
        num_frames, num_classes, boxes, dets = case = random_case(seed + 1000)
        result = evaluate_detections(*to_arrays(*case), "devkit", area_ranges=True)
        for measured in result.ranges:
            expected = plain_evaluate(
                num_frames, num_classes, boxes, in_frame_order(dets), measured.range, fgfa=False
            )
            expected = [float("nan") if ap is None else float(ap) for ap in expected]
            np.testing.assert_allclose(measured.ap, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_devkit_on_large_boxes_equals_pycocotools_precision_recall(seed):
    """Boxes of 25 pixels and more have one threshold: pycocotools' own matching decides.

    Boxes are handed to pycocotools one pixel larger, which is the inclusive convention, scores
    and IoUs do not tie, and its hits are integrated here at every change of recall.
    """
    generator = np.random.default_rng(seed)
    count = 120
    corners = generator.uniform(0, 150, size=(count, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(30, 90, (count, 2))], axis=1)
    frames = generator.integers(0, 25, size=count)
    classes = generator.integers(0, 2, size=count)
    near = generator.integers(0, count, size=500)
    det_boxes = boxes[near] + generator.uniform(-14, 14, size=(500, 4))
    det_scores = generator.permutation(500) / 500
    ground_truth = GroundTruth(25, ["a", "b"], frames, boxes, classes, np.zeros(count, dtype=bool))
    detections = Detections(frames[near], det_boxes, det_scores, classes[near])
    result = evaluate_detections(ground_truth, detections, "devkit").ranges[0]

    inclusive = np.array([0, 0, 1, 1])
    evaluation = run_pycocotools(
        *coco_json(25, 2, frames, boxes + inclusive, classes, np.zeros(count, dtype=bool)),
        *[coco_results(frames[near], det_boxes + inclusive, det_scores, classes[near])],
    )
    for class_id in (0, 1):
        images = [
            e
            for e in evaluation.evalImgs
            if e and e["category_id"] == class_id + 1 and e["aRng"] == [0, 1e10]
        ]
        scores = np.concatenate([e["dtScores"] for e in images])
        hits = np.concatenate([e["dtMatches"][0] > 0 for e in images])  # threshold 0.5
        hits = hits[np.argsort(-scores)]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        positives = (classes == class_id).sum()
        area = sum(precision[i:].max() / positives for i in np.flatnonzero(hits))
        assert 0.2 < area < 0.99
        assert result.ap[class_id] == pytest.approx(area, abs=1e-12)


def coco_json(num_frames, num_classes, frames, boxes, classes, ignored):
    return [
        {
            "images": [{"id": i, "width": 400, "height": 400} for i in range(num_frames)],
            "categories": [{"id": i + 1, "name": f"class{i}"} for i in range(num_classes)],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": int(frame),
                    "category_id": int(class_id) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(crowd),
                }
                for i, (frame, (x1, y1, x2, y2), class_id, crowd) in enumerate(
                    zip(frames, boxes.tolist(), classes, ignored, strict=True)
                )
            ],
        }
    ]


def coco_results(frames, boxes, scores, classes):
    return [
        {
            "image_id": int(frame),
            "category_id": int(class_id) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
        }
        for frame, (x1, y1, x2, y2), score, class_id in zip(
            frames, boxes.tolist(), scores, classes, strict=True
        )
    ]


def run_pycocotools(dataset, results, folder=None):
    with contextlib.redirect_stdout(io.StringIO()):
        if folder is None:
            ground_truth = COCO()
            ground_truth.dataset = dataset
            ground_truth.createIndex()
            detections = ground_truth.loadRes(results)
        else:
            (folder / "gt.json").write_text(json.dumps(dataset))
            (folder / "dt.json").write_text(json.dumps(results))
            ground_truth = COCO(str(folder / "gt.json"))
            detections = ground_truth.loadRes(str(folder / "dt.json"))
        evaluation = COCOeval(ground_truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(3))
def test_coco_takes_sizes_from_the_annotated_areas(seed):
    """D8: masks fill a part of their box only, which moves boxes to smaller sizes."""
    case = random_case(seed, num_frames=12, num_boxes=50, num_dets=250, smallest=20, step=12)
    ground_truth, detections = to_arrays(*case)
    filled = np.random.default_rng(seed).uniform(0.1, 0.9, len(ground_truth))
    dataset = coco_json(
        12, 2, ground_truth.frames, ground_truth.boxes, ground_truth.classes, ground_truth.ignored
    )[0]
    for annotation, part in zip(dataset["annotations"], filled.tolist(), strict=True):
        annotation["area"] *= part
    results = coco_results(
        detections.frames, detections.boxes, detections.scores, detections.classes
    )
    expected = run_pycocotools(dataset, results).stats[3:6]
    areas = [annotation["area"] for annotation in dataset["annotations"]]
    names = ("APs", "APm", "APl")
    metrics = evaluate_detections(replace(ground_truth, areas=areas), detections, "coco").metrics()
    assert [metrics[n] for n in names] == pytest.approx([100 * v for v in expected], abs=1e-12)
    plain = evaluate_detections(ground_truth, detections, "coco").metrics()
    assert max(abs(plain[n] - metrics[n]) for n in names) > 1


@pytest.mark.parametrize("seed", range(3))
def test_coco_equals_pycocotools_on_the_same_json(seed, tmp_path):
    # smallest=20 puts boxes in all three of COCO's sizes.
    case = random_case(seed, num_frames=12, num_boxes=50, num_dets=250, smallest=20, step=12)
    ground_truth, detections = to_arrays(*case)
    result = evaluate_detections(ground_truth, detections, "coco")
    dataset = coco_json(
        12, 2, ground_truth.frames, ground_truth.boxes, ground_truth.classes, ground_truth.ignored
    )[0]
    results = coco_results(
        detections.frames, detections.boxes, detections.scores, detections.classes
    )
    evaluation = run_pycocotools(dataset, results, tmp_path)
    metrics = result.metrics()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    for name, value in zip(names, evaluation.stats[:6], strict=True):
        assert metrics[name] == pytest.approx(100 * value, abs=1e-12)
    assert metrics["mAP50"] == pytest.approx(metrics["AP50"], abs=1e-9)
    for class_id in (0, 1):
        precision = evaluation.eval["precision"][0, :, class_id, 0, 2]
        assert metrics[f"AP50-class{class_id}"] == pytest.approx(100 * precision.mean(), abs=1e-9)
    assert 5 < metrics["AP50"] < 95


def test_coco_without_detections_and_without_a_class():
    boxes = [(0, 0, (0, 0, 40, 40), False, 1.0)]
    metrics = evaluate_detections(*to_arrays(2, 2, boxes, []), "coco").metrics()
    assert metrics["AP"] == 0.0
    assert metrics["AP50-class0"] == 0.0
    assert math.isnan(metrics["AP50-class1"])
    assert math.isnan(metrics["APs"])
    assert metrics["mAP50"] == 0.0


SQUARE, FAR = (0, 0, 49, 49), (200, 0, 249, 49)


def test_ignored_box_counts_neither_way_and_is_not_to_be_found():
    boxes = [(0, 0, SQUARE, True, 1.0), (0, 0, FAR, False, 1.0)]
    dets = [(0, 0, 0.9, SQUARE), (0, 0, 0.5, FAR)]
    for protocol in ("fgfa", "devkit"):
        result = evaluate_detections(*to_arrays(1, 1, boxes, dets), protocol)
        assert result.ranges[0].positives.tolist() == [1]
        assert result.metrics()["mAP50"] == 100.0
        # It can be taken only once: a second detection there is a false positive.
        twice = [(0, 0, 0.95, SQUARE), *dets]
        result = evaluate_detections(*to_arrays(1, 1, boxes, twice), protocol)
        assert result.metrics()["mAP50"] == 50.0


def test_class_without_positives_is_left_out_of_the_mean_of_its_range():
    # Class 0 is found, slow only; class 1 is missed, fast only; class 2 has no boxes at all.
    boxes = [(0, 0, SQUARE, False, 0.95), (0, 1, FAR, False, 0.1)]
    dets = [(0, 0, 0.9, SQUARE), (0, 2, 0.9, (400, 0, 449, 49))]
    metrics = evaluate_detections(*to_arrays(1, 3, boxes, dets), "fgfa").metrics()
    assert metrics["mAP50"] == 50.0
    assert metrics["mAP50-slow"] == 100.0
    assert metrics["mAP50-fast"] == 0.0
    assert math.isnan(metrics["mAP50-medium"])
    assert math.isnan(metrics["AP50-class2"])
    assert list(metrics) == [
        "mAP50",
        "mAP50-slow",
        "mAP50-medium",
        "mAP50-fast",
        "AP50-class0",
        "AP50-class1",
        "AP50-class2",
    ]


def test_empty_frame_weighs_the_share_of_its_range():
    # Motion values: 0.95 and one empty frame's 0, so a false alarm there weighs 1/2 in slow.
    boxes = [(0, 0, SQUARE, False, 0.95)]
    dets = [(1, 0, 0.9, SQUARE), (0, 0, 0.5, SQUARE)]
    metrics = evaluate_detections(*to_arrays(2, 1, boxes, dets), "fgfa").metrics()
    assert metrics["mAP50"] == 50.0
    assert metrics["mAP50-slow"] == pytest.approx(100 / 1.5)


def test_area_ranges_drop_false_alarms_of_another_size():
    small, large = (0, 0, 39, 39), (100, 0, 299, 199)
    boxes = [(0, 0, small, False, 1.0), (0, 0, large, False, 1.0)]
    dets = [
        (0, 0, 0.9, (400, 0, 599, 199)),  # a large false alarm
        (0, 0, 0.8, small),
        (0, 0, 0.7, large),
    ]
    metrics = evaluate_detections(*to_arrays(1, 1, boxes, dets), "fgfa", area_ranges=True).metrics()
    assert metrics["mAP50-area-small"] == 100.0
    assert math.isnan(metrics["mAP50-area-medium"])
    assert metrics["mAP50-area-large"] == 50.0


def test_area_ranges_include_both_ends():
    # 50 x 50 pixels: the box and the false alarm above it are small and medium at once.
    boxes = [(0, 0, SQUARE, False, 1.0)]
    dets = [(0, 0, 0.9, FAR), (0, 0, 0.5, SQUARE)]
    result = evaluate_detections(*to_arrays(1, 1, boxes, dets), "devkit", area_ranges=True)
    assert [r.mean_ap for r in result.ranges[:3]] == [0.5, 0.5, 0.5]
    assert result.ranges[3].positives.tolist() == [0]


def test_shares_of_the_ranges():
    boxes = [(0, 0, SQUARE, False, m) for m in (0.95, 0.95, 0.8, 0.1)] + [(0, 0, SQUARE, True, 0.1)]
    result = evaluate_detections(*to_arrays(1, 1, boxes, []), "fgfa")
    assert [r.share for r in result.ranges] == [1.0, 0.5, 0.25, 0.25]


def test_motion_rows_are_unavailable_without_motion():
    ground_truth = GroundTruth(
        1, ["a"], [0], [SQUARE], [0], [False], motion_note="track_id is missing"
    )
    detections = Detections([0], [SQUARE], [0.5], [0])
    result = evaluate_detections(ground_truth, detections, "fgfa")
    metrics = result.metrics()
    assert metrics["mAP50"] == 100.0
    assert all(math.isnan(metrics[f"mAP50-{name}"]) for name in ("slow", "medium", "fast"))
    assert [r.unavailable for r in result.ranges] == [None, *["track_id is missing"] * 3]


def test_scores_are_ordered_over_all_frames():
    boxes = [(0, 0, SQUARE, False, 1.0), (1, 0, SQUARE, False, 1.0)]
    dets = [(0, 0, 0.2, SQUARE), (0, 0, 0.9, FAR), (1, 0, 0.5, SQUARE)]
    # miss 0.9, hit 0.5, hit 0.2: precision 0, 1/2, 2/3; the envelope is 2/3 all along.
    metrics = evaluate_detections(*to_arrays(2, 1, boxes, dets), "devkit").metrics()
    assert metrics["mAP50"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [np.nan]}, "score nan is not a finite number"),
        ({"boxes": [(5, 0, 5, 9)]}, "has a width or height of zero or less"),
        ({"boxes": [(5, 9, 15, 3)]}, "has a width or height of zero or less"),
        ({"boxes": [(5, np.inf, 15, 3)]}, "not a finite number"),
        ({"classes": [1]}, "category 1 is not one of the 1 known"),
        ({"classes": [-1]}, "category -1 is not one of the 1 known"),
        ({"frames": [2]}, r"frame row 2 is outside 0\.\.1"),
    ],
)
def test_unusable_detections_are_named(change, message):
    ground_truth, _ = to_arrays(2, 1, [(0, 0, SQUARE, False, 1.0)], [])
    fields = {"frames": [1], "boxes": [SQUARE], "scores": [0.5], "classes": [0], **change}
    with pytest.raises(ValueError, match=message):
        evaluate_detections(ground_truth, Detections(**fields))


def test_wrong_arguments_are_named():
    arrays = to_arrays(1, 1, [], [])
    with pytest.raises(ValueError, match="'voc'; choose one of fgfa, devkit, coco"):
        evaluate_detections(*arrays, "voc")
    with pytest.raises(ValueError, match="its own sizes"):
        evaluate_detections(*arrays, "coco", area_ranges=True)
    with pytest.raises(ValueError, match="no motion ranges"):
        evaluate_detections(*arrays, "devkit", ranges=[SLOW_AND_SMALL])
    with pytest.raises(ValueError, match=r"motion IoU 1\.5 of box 0"):
        to_arrays(1, 1, [(0, 0, SQUARE, False, 1.5)], [])
    with pytest.raises(ValueError, match=r"\[9\.0, 0\.0, 3\.0, 9\.0\]"):
        to_arrays(1, 1, [(0, 0, (9, 0, 3, 9), False, 1.0)], [])
    with pytest.raises(ValueError, match="scores has 2 rows, frames has 1"):
        Detections([0], [SQUARE], [0.5, 0.6], [0])
