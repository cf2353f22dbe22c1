from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators, inference_on_dataset
from detectron2.utils import comm
from vid_cases import (
    CLASSES,
    VIDEO_LENGTH,
    make_dicts,
    make_instances,
    noisy,
    nothing,
    perfect,
    run,
)

from iff_detectron2.evaluation import (
    Detections,
    VIDEvaluator,
    evaluate_detections,
    ground_truth_from_dicts,
)


def test_perfect_detections_and_metric_names(register):
    dicts = make_dicts()
    results = run(VIDEvaluator(register(dicts)), dicts, perfect)
    assert list(results) == ["bbox"]
    metrics = dict(results["bbox"])
    # The cat stands (motion IoU 1); the dog moves a quarter of its width a frame.
    assert math.isnan(metrics.pop("mAP50-medium"))
    assert metrics == {
        "mAP50": 100.0,
        "mAP50-slow": 100.0,
        "mAP50-fast": 100.0,
        "AP50-cat": 100.0,
        "AP50-dog": 100.0,
    }


def test_equals_evaluate_detections(register):
    dicts = make_dicts()
    metrics = run(VIDEvaluator(register(dicts)), dicts, noisy)["bbox"]
    parts = [(row, noisy(record)["instances"]) for row, record in enumerate(dicts)]
    detections = Detections(
        frames=np.concatenate([[row] * len(p) for row, p in parts]),
        boxes=np.concatenate([p.pred_boxes.tensor.numpy() for _, p in parts]),
        scores=np.concatenate([p.scores.numpy() for _, p in parts]),
        classes=np.concatenate([p.pred_classes.numpy() for _, p in parts]),
    )
    expected = evaluate_detections(ground_truth_from_dicts(dicts, CLASSES), detections).metrics()
    np.testing.assert_equal(dict(metrics), dict(expected))
    assert 5 < metrics["mAP50"] < 95


@pytest.mark.parametrize("protocol", ["fgfa", "devkit", "coco"])
def test_no_detections_at_all(register, protocol):
    dicts = make_dicts()
    metrics = run(VIDEvaluator(register(dicts), protocol), dicts, nothing)["bbox"]
    assert metrics["mAP50"] == 0.0
    assert metrics["AP50-dog"] == 0.0


def test_frames_without_any_object(register):
    dicts = make_dicts()
    for record in dicts:
        record["annotations"] = []
    metrics = run(VIDEvaluator(register(dicts)), dicts, noisy)["bbox"]
    assert all(math.isnan(value) for value in metrics.values())


def test_order_of_frames_does_not_matter(register, tmp_path):
    dicts = make_dicts()
    name = register(dicts)
    forwards = run(VIDEvaluator(name, output_dir=tmp_path / "forwards"), dicts, noisy)
    backwards = run(VIDEvaluator(name, output_dir=tmp_path / "backwards"), dicts[::-1], noisy)
    np.testing.assert_equal(backwards, forwards)
    for path in (tmp_path / "forwards").iterdir():
        assert (tmp_path / "backwards" / path.name).read_text() == path.read_text()


def test_two_ranks_equal_one(register, monkeypatch, caplog):
    """Videos split over two ranks, the last frame padded: the numbers of one process."""
    dicts = make_dicts()
    name = register(dicts)
    expected = run(VIDEvaluator(name), dicts, noisy)
    ranks = [VIDEvaluator(name) for _ in range(2)]
    parts = (dicts[VIDEO_LENGTH:], [*dicts[:VIDEO_LENGTH], dicts[-1]])
    for rank, part in zip(ranks, parts, strict=True):
        rank.reset()
        rank.process(part, [noisy(record) for record in part])
    sent = []
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: sent.append(data) or [])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert ranks[1].evaluate() is None
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: [data, *sent])
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    with caplog.at_level(logging.INFO, logger="iff_detectron2"):
        results = ranks[0].evaluate()
    np.testing.assert_equal(results, expected)
    assert "1 frames were processed more than once" in caplog.text


def test_rank_without_frames(register, monkeypatch):
    dicts = make_dicts()
    evaluator = VIDEvaluator(register(dicts))
    expected = run(evaluator, dicts, noisy)
    idle = VIDEvaluator(register(dicts))
    idle.reset()
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: sent.append(data))
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    sent: list = []
    idle.evaluate()
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: [*sent, data])
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    np.testing.assert_equal(evaluator.evaluate(), expected)


def evaluate_in_process(rank, store, output_dir):
    """One of two processes, each with one video."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    dicts = make_dicts()
    DatasetCatalog.register("two_processes", lambda: dicts)
    MetadataCatalog.get("two_processes").thing_classes = CLASSES
    evaluator = VIDEvaluator("two_processes", output_dir=output_dir)
    results = run(evaluator, [r for r in dicts if r["video_id"] == f"video{1 - rank}"], noisy)
    torch.distributed.destroy_process_group()
    assert (results is None) == (rank == 1)


@pytest.mark.slow
def test_two_processes_equal_one(register, tmp_path, monkeypatch, request):
    # The children import this module by its name.
    monkeypatch.syspath_prepend(request.config.rootpath)
    dicts = make_dicts()
    run(VIDEvaluator(register(dicts), output_dir=tmp_path / "one"), dicts, noisy)
    torch.multiprocessing.spawn(evaluate_in_process, (tmp_path / "store", tmp_path / "two"), 2)
    one, two = (
        json.loads((tmp_path / folder / "results.json").read_text()) for folder in ("one", "two")
    )
    assert one["bbox"]["mAP50"] > 5
    assert two["bbox"] == one["bbox"]
    texts = [(tmp_path / folder / "predictions.json").read_text() for folder in ("one", "two")]
    assert texts[0] == texts[1]


def test_lost_frames_are_an_error(register, caplog):
    dicts = make_dicts()
    evaluator = VIDEvaluator(register(dicts))
    with pytest.raises(ValueError, match=r"2 of 12 frames .* first image_id 4; .*allow_partial"):
        run(evaluator, [*dicts[:3], *dicts[5:]], perfect)
    evaluator = VIDEvaluator(register(dicts), allow_partial=True)
    metrics = run(evaluator, [*dicts[:3], *dicts[5:]], perfect)["bbox"]
    assert metrics["AP50-cat"] == pytest.approx(80.0)  # 8 of 10 cats
    assert "they count as frames without detections" in caplog.text


def test_beside_coco_evaluator_in_inference_on_dataset(register, tmp_path):
    dicts = make_dicts()
    name = register(dicts)
    evaluators = DatasetEvaluators(
        [
            COCOEvaluator(name, ("bbox",), False, output_dir=str(tmp_path / "coco")),
            VIDEvaluator(name, task="vid"),
            VIDEvaluator(name, "coco", task="vid-coco"),
        ]
    )
    loader = [dicts[start : start + 4] for start in range(0, len(dicts), 4)]
    results = inference_on_dataset(lambda batch: [noisy(r) for r in batch], loader, evaluators)
    assert list(results) == ["bbox", "vid", "vid-coco"]
    np.testing.assert_equal(
        dict(results["vid"]), dict(run(VIDEvaluator(name), dicts, noisy)["bbox"])
    )
    for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        np.testing.assert_allclose(results["vid-coco"][metric], results["bbox"][metric], atol=1e-9)


@pytest.mark.parametrize(
    ("box", "score", "class_id", "message"),
    [
        ([0, 0, 9, 9], float("nan"), 0, "image_id 3: detection 0: score nan"),
        ([0, 0, 0, 9], 0.5, 0, "image_id 3: detection 0: box .* width or height of zero or less"),
        ([9, 0, 3, 9], 0.5, 0, "image_id 3: detection 0: box .* width or height of zero or less"),
        ([0, 0, float("nan"), 9], 0.5, 0, "image_id 3: detection 0: box .* not a finite number"),
        ([0, 0, 9, 9], 0.5, 2, "image_id 3: detection 0: category 2 is not one of the 2 known"),
    ],
)
def test_unusable_predictions_name_the_image(register, box, score, class_id, message):
    dicts = make_dicts()
    evaluator = VIDEvaluator(register(dicts))
    evaluator.reset()
    with pytest.raises(ValueError, match=message):
        evaluator.process([dicts[2]], [{"instances": make_instances([box], [score], [class_id])}])


def test_unknown_image_is_an_error(register):
    dicts = make_dicts()
    evaluator = VIDEvaluator(register(dicts))
    with pytest.raises(ValueError, match="image_id 99 is not in dataset"):
        evaluator.process([{"image_id": 99}], [nothing(None)])


def test_unknown_protocol_and_classes(register):
    with pytest.raises(ValueError, match="'voc'; choose one of fgfa, devkit, coco"):
        VIDEvaluator(register(make_dicts()), "voc")
    with pytest.raises(ValueError, match="'coco' has its own sizes"):
        VIDEvaluator(register(make_dicts()), "coco", area_ranges=True)
    with pytest.raises(ValueError, match="no `thing_classes`"):
        VIDEvaluator(register(make_dicts(), classes=()))
