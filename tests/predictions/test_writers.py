from __future__ import annotations

import json

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from vid_cases import CLASSES, make_dicts, noisy, nothing, perfect, run

from iff_detectron2.evaluation import (
    Detections,
    VIDEvaluator,
    evaluate_detections,
    ground_truth_from_dicts,
)
from iff_detectron2.utils.files import open_atomically


def test_saved_files(register, tmp_path):
    dicts = make_dicts()
    evaluator = VIDEvaluator(register(dicts), output_dir=tmp_path / "run")
    metrics = run(evaluator, dicts, noisy)["bbox"]
    saved = ["predictions.json", "predictions.txt", "results.json", "results.txt"]
    names = ["operating_point.json", *saved]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names

    saved = json.loads((tmp_path / "run" / "predictions.json").read_text())
    first = noisy(dicts[0])["instances"]
    assert [p["image_id"] for p in saved] == [
        r["image_id"] for r in dicts for _ in range(len(noisy(r)["instances"]))
    ]
    assert {k: saved[0][k] for k in ("image_id", "video_id", "frame_index")} == {
        "image_id": 1,
        "video_id": "video0",
        "frame_index": 0,
    }
    # Evaluating the file gives the same result to the digit.
    xywh = np.array([p["bbox"] for p in saved])
    detections = Detections(
        frames=[p["image_id"] - 1 for p in saved],
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        scores=[p["score"] for p in saved],
        classes=[p["category_id"] for p in saved],
    )
    again = evaluate_detections(ground_truth_from_dicts(dicts, CLASSES), detections).metrics()
    np.testing.assert_equal(dict(again), dict(metrics))

    lines = (tmp_path / "run" / "predictions.txt").read_text().splitlines()
    assert len(lines) == len(saved)
    x1, y1, x2, y2 = first.pred_boxes.tensor[0].tolist()
    assert lines[0] == (
        f"1 {first.pred_classes[0] + 1} {first.scores[0]:.4f} {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f}"
    )

    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["protocol"] == "fgfa"
    assert results["bbox"]["mAP50"] == metrics["mAP50"]
    assert results["bbox"]["mAP50-medium"] is None
    table = (tmp_path / "run" / "results.txt").read_text()
    assert table.startswith("Protocol: FGFA")
    for text in ("slow", "medium", "fast", "share %", "cat", f"{metrics['mAP50']:.2f}"):
        assert text in table


def test_files_without_detections(register, tmp_path):
    dicts = make_dicts()
    run(VIDEvaluator(register(dicts), "coco", tmp_path), dicts, nothing)
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    assert (tmp_path / "predictions.txt").read_text() == ""
    assert (tmp_path / "results.txt").read_text().startswith("Protocol: COCO")


def test_dataset_category_ids_in_json(register, tmp_path):
    dicts = make_dicts()
    name = register(dicts)
    MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id = {18: 1, 17: 0}
    run(VIDEvaluator(name, output_dir=tmp_path), dicts, perfect)
    saved = json.loads((tmp_path / "predictions.json").read_text())
    assert [p["category_id"] for p in saved[:2]] == [17, 18]


def test_interrupted_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with open_atomically(path) as stream:
            stream.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
