"""TEST.VIDEO.POSTPROCESS: from the config to the evaluator's numbers and files."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from toy_models import CONFIGS, tiny_cfg

from iff_detectron2.engine import VideoTrainer, build_postprocess, load_config
from iff_detectron2.evaluation import VIDEvaluator, evaluate_detections
from iff_detectron2.postprocessing import seq_nms

LENGTH = 6
NO_NMS = (
    *("MODEL.ROI_HEADS.NMS_THRESH_TEST", 1.0),
    *("TEST.DETECTIONS_PER_IMAGE", -1),
)


@pytest.fixture
def dataset(clean_catalogs):
    """Two videos of one dog that walks, frames of the two in turn."""
    dicts = [
        {
            "file_name": f"{video}/{frame}.jpg",
            "height": 100,
            "width": 200,
            "image_id": 2 * frame + video + 1,
            "video_id": f"v{video}",
            "frame_index": frame,
            "annotations": [
                {
                    "bbox": [10 + 3 * frame, 20, 60 + 3 * frame, 70],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": 1,
                    "track_id": 1,
                }
            ],
        }
        for frame in range(LENGTH)
        for video in range(2)
    ]
    DatasetCatalog.register("walking_dogs", lambda: dicts)
    MetadataCatalog.get("walking_dogs").set(thing_classes=["cat", "dog"], evaluator_type="vid")
    return dicts


def predict(record):
    """Return the dog with a weak score in some frames, and clutter that is stronger there."""
    x = 10 + 3 * record["frame_index"]
    score = 0.9 if record["frame_index"] % 2 else 0.2
    clutter = 100 + 40 * (record["frame_index"] % 3) - 5 * int(record["video_id"][1])
    return Instances(
        (100, 200),
        pred_boxes=Boxes(torch.tensor([[clutter, 0.0, clutter + 20, 20], [x, 20, x + 50, 70]])),
        scores=torch.tensor([0.5, score]),
        pred_classes=torch.tensor([1, 1]),
    )


def run(evaluator, dicts):
    evaluator.reset()
    for record in dicts:
        evaluator.process([record], [{"instances": predict(record)}])
    return evaluator.evaluate()


def seq_nms_cfg(tmp_path, variant, *opts):
    return tiny_cfg("TEST.VIDEO.POSTPROCESS", variant, "OUTPUT_DIR", str(tmp_path), *opts)


@pytest.mark.parametrize(("variant", "opts"), [("seq_nms", NO_NMS), ("seq_nms_plus", ())])
def test_evaluator_scores_the_rescored_and_saves_both(dataset, tmp_path, variant, opts):
    cfg = seq_nms_cfg(tmp_path, variant, *opts)
    metrics = run(VideoTrainer.build_evaluator(cfg, "walking_dogs"), dataset)["bbox"]
    folder = tmp_path / "inference" / "walking_dogs"
    raw = json.loads((folder / "predictions_raw.json").read_text())
    rescored = json.loads((folder / "predictions.json").read_text())
    assert len(raw) == 4 * LENGTH
    assert not any("track_id" in result for result in raw)
    # What seq_nms makes of each video on its own.
    expected = {}
    for video in ("v0", "v1"):
        records = [record for record in dataset if record["video_id"] == video]
        found = seq_nms([predict(record) for record in records], variant, rescore=None)
        expected.update({r["image_id"]: i for r, i in zip(records, found, strict=True)})
    for record in dataset:
        results = [r for r in rescored if r["image_id"] == record["image_id"]]
        instances = expected[record["image_id"]]
        assert [r["score"] for r in results] == pytest.approx(instances.scores.tolist())
        assert [r.get("track_id", -1) for r in results] == instances.track_ids.tolist()
        assert [r["bbox"][0] for r in results] == instances.pred_boxes.tensor[:, 0].tolist()
    # The weak frames of the dog now rank above the clutter.
    assert metrics["AP50-dog"] == 100.0
    again = evaluate_detections("walking_dogs", folder / "predictions.json").metrics()
    np.testing.assert_equal(dict(again), dict(metrics))
    assert run(VIDEvaluator("walking_dogs"), dataset)["bbox"]["AP50-dog"] < 90
    lines = (folder / "predictions.txt").read_text().splitlines()
    assert len(lines) == len(rescored)


def test_frames_are_gathered_from_all_processes_first(dataset, tmp_path, monkeypatch):
    """Two ranks with every other frame of each video: a path needs the frames of both."""

    def evaluator(folder):
        return VideoTrainer.build_evaluator(
            seq_nms_cfg(tmp_path / folder, "seq_nms_plus"), "walking_dogs"
        )

    expected = run(evaluator("one"), dataset)
    main, other = evaluator("two"), evaluator("two")
    for rank, remainder in ((main, 0), (other, 1)):
        rank.reset()
        for record in dataset:
            if record["frame_index"] % 2 == remainder:
                rank.process([record], [{"instances": predict(record)}])
    sent = []
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: sent.append(data) or [])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert other.evaluate() is None
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: [data, *sent])
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    np.testing.assert_equal(main.evaluate(), expected)
    for name in ("predictions.json", "predictions_raw.json"):
        one, two = (
            (tmp_path / folder / "inference/walking_dogs" / name).read_text()
            for folder in ("one", "two")
        )
        assert one == two


def test_without_postprocess_nothing_changes(dataset, tmp_path):
    cfg = tiny_cfg("OUTPUT_DIR", str(tmp_path))
    assert build_postprocess(cfg) is None
    # What an earlier run with postprocessing left behind goes.
    run(
        VideoTrainer.build_evaluator(seq_nms_cfg(tmp_path, "seq_nms_plus"), "walking_dogs"), dataset
    )
    run(VideoTrainer.build_evaluator(cfg, "walking_dogs"), dataset)
    names = {path.name for path in (tmp_path / "inference" / "walking_dogs").iterdir()}
    boxes = {"predictions.json", "predictions.txt"}
    assert names == {*boxes, "results.json", "results.txt", "operating_point.json"}


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("TEST.VIDEO.POSTPROCESS", "nms"), r"is 'nms'; choose one of seq_nms, seq_nms_plus"),
        (
            ("TEST.VIDEO.POSTPROCESS", "seq_nms", *NO_NMS[2:]),
            r"MODEL.ROI_HEADS.NMS_THRESH_TEST is 0.3, set it to 1.0\.",
        ),
        (
            ("TEST.VIDEO.POSTPROCESS", "seq_nms", *NO_NMS[:2]),
            r"without a limit: TEST.DETECTIONS_PER_IMAGE is 50, set it to -1",
        ),
        (
            (
                *("TEST.VIDEO.POSTPROCESS", "seq_nms", *NO_NMS),
                *("MODEL.META_ARCHITECTURE", "VideoRetinaNet"),
            ),
            r"MODEL.RETINANET.NMS_THRESH_TEST is 0.5, set it to 1.0",
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused_before_training(opts, message):
    with pytest.raises(ValueError, match=message):
        load_config(str(CONFIGS / "MovingShapes/iff_net_C.yaml"), list(opts))


def test_missing_numba_is_told_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "iff_detectron2.postprocessing.compiled", raising=False)
    cfg = tiny_cfg("TEST.VIDEO.POSTPROCESS", "seq_nms_plus")
    for start in (VideoTrainer, lambda cfg: VideoTrainer.build_evaluator(cfg, "any")):
        with pytest.raises(ImportError, match="needs numba"):
            start(cfg)


def test_datasets_that_do_not_fit_are_refused_before_inference(dataset, tmp_path):
    cfg = seq_nms_cfg(tmp_path, "seq_nms_plus")
    del dataset[3]["frame_index"]
    with pytest.raises(ValueError, match=r"image_id 4: .* needs video_id and frame_index"):
        VideoTrainer.build_evaluator(cfg, "walking_dogs")
    MetadataCatalog.get("stills").set(evaluator_type="coco")
    with pytest.raises(ValueError, match="'stills' has 'coco'"):
        VideoTrainer.build_evaluator(cfg, "stills")


def test_score_that_is_no_probability_names_the_image(dataset, tmp_path):
    evaluator = VideoTrainer.build_evaluator(seq_nms_cfg(tmp_path, "seq_nms_plus"), "walking_dogs")
    evaluator.reset()
    for record in dataset:
        instances = predict(record)
        if record["image_id"] == 7:
            instances.scores[1] = 1.5
        evaluator.process([record], [{"instances": instances}])
    with pytest.raises(ValueError, match=r"image_id 7: score 1\.5 is outside \[0, 1\]"):
        evaluator.evaluate()
