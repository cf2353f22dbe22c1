from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from vid_cases import CLASSES, make_dicts, perfect, run

from iff_detectron2.evaluation import VIDEvaluator, ground_truth_from_dicts


@pytest.mark.parametrize("key", ["track_id", "video_id"])
def test_without_tracks_motion_is_unavailable(register, caplog, key):
    dicts = make_dicts()
    for record in dicts:
        record.pop(key, None)
        for annotation in record["annotations"]:
            annotation.pop(key, None)
    with caplog.at_level(logging.INFO, logger="iff_detectron2"):
        metrics = run(VIDEvaluator(register(dicts)), dicts, perfect)["bbox"]
    assert metrics["mAP50"] == 100.0
    assert math.isnan(metrics["mAP50-slow"])
    assert f"mAP50-slow is unavailable: {key} is missing in" in caplog.text


def test_motion_iou_file_replaces_tracks(register, tmp_path):
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed").savemat
    dicts = make_dicts()
    cells = np.empty((len(dicts), 1), dtype=object)
    for row, record in enumerate(dicts):
        cells[row, 0] = np.full((2, 1), 0.8) if record["annotations"] else np.empty((1, 0))
    path = tmp_path / "motion.mat"
    savemat(path, {"motion_iou": cells})
    metrics = run(VIDEvaluator(register(dicts), motion_iou_file=path), dicts, perfect)["bbox"]
    assert metrics["mAP50-medium"] == 100.0
    assert math.isnan(metrics["mAP50-slow"])
    with pytest.raises(ValueError, match="for protocol 'fgfa', not 'devkit'"):
        VIDEvaluator(register(dicts), "devkit", motion_iou_file=path)


def test_crowd_annotations_are_ignored(register):
    dicts = make_dicts()
    for record in dicts:
        for annotation in record["annotations"]:
            annotation["iscrowd"] = int(annotation["category_id"] == 1)
    ground_truth = ground_truth_from_dicts(dicts, CLASSES)
    np.testing.assert_array_equal(ground_truth.ignored, ground_truth.classes == 1)
    metrics = run(VIDEvaluator(register(dicts)), dicts, perfect)["bbox"]
    assert metrics["AP50-cat"] == 100.0
    assert math.isnan(metrics["AP50-dog"])


def change(dicts, key, value, row=2):
    dicts[row]["annotations"][0][key] = value


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: change(d, "category_id", 2), "image_id 3: ground truth box .* category 2"),
        (lambda d: change(d, "bbox", [9, 9, -4, 4]), "image_id 3: ground truth box"),
        (lambda d: change(d, "bbox", [9, 9, math.nan, 4]), "image_id 3: ground truth box"),
        (lambda d: d[2]["annotations"][0].pop("bbox"), "image_id 3: an annotation has no bbox"),
        (
            lambda d: change(d, "track_id", 2),
            r"image_id 3 \(video video0, frame 2\): track_id 2 has two boxes",
        ),
        (lambda d: d[2].update(image_id=1), "12 frames, but only 11 different image_ids"),
        (lambda d: d[2].update(frame_index=1), "same video_id and frame_index"),
        (lambda d: d.clear(), "has no frames to evaluate"),
    ],
)
def test_unusable_datasets_fail_before_inference(register, spoil, message):
    dicts = make_dicts()
    spoil(dicts)
    with pytest.raises(ValueError, match=message):
        VIDEvaluator(register(dicts))
