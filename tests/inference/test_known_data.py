"""What `predict` writes of a dataset's own video is evaluated and post-processed as it is."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from toy_models import tiny_cfg
from video_runs import SIZES, make_frames, make_model, write_frames

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.evaluation import EvaluationDataset, VIDEvaluator, evaluate_detections
from iff_detectron2.inference import rescore_predictions
from iff_detectron2.inference.known_data import (
    Classes,
    frames_of_source,
    known_classes,
    operating_threshold,
)
from iff_detectron2.inference.run import VideoRun, predict_video
from iff_detectron2.video.sources import FolderSource

CATEGORY_IDS = [70, 10, 20, 30, 40, 50, 60, 5]
NUM_FRAMES = 4


@pytest.fixture
def dataset(tmp_path, clean_catalogs):
    """Register a video of frames numbered from 401, behind one that is not on the disk."""
    files = write_frames(tmp_path / "clip", make_frames(NUM_FRAMES))
    label = {"bbox": [5, 5, 30, 30], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 4, "track_id": 1}
    dicts = [
        {
            "file_name": str(file),
            "height": 48,
            "width": 72,
            "image_id": 100 + index,
            "video_id": video,
            "frame_index": index,
            "frame_number": 401 + index,
            "annotations": [label],
        }
        for video, folder in (("sets/other", tmp_path / "other"), ("sets/clip", tmp_path / "clip"))
        for index, file in enumerate(folder / path.name for path in files)
    ]
    for number, record in enumerate(dicts):
        record["image_id"] = 100 + number
    DatasetCatalog.register("own_set", lambda: dicts)
    MetadataCatalog.get("own_set").set(
        thing_classes=[f"class {c}" for c in range(8)],
        thing_dataset_id_to_contiguous_id={c: n for n, c in enumerate(CATEGORY_IDS)},
        evaluator_type="vid",
    )
    return dicts


def test_predictions_go_round(dataset, tmp_path):
    """D9: `predict`, then `evaluate` and `postprocess`, without a change of the file."""
    cfg = tiny_cfg(*SIZES, "DATASETS.TEST", ("own_set",))
    model = make_model()
    plan = VideoRun(tmp_path / "out", ("mot",), drawing=None, progress=False)
    source = FolderSource(tmp_path / "clip")
    assert predict_video(cfg, VideoPredictor(cfg, model), source, plan, report=lambda _: None)

    saved = tmp_path / "out" / "predictions.json"
    evaluator = VIDEvaluator("own_set", distributed=False, allow_partial=True)
    evaluator.reset()
    frames = make_frames(NUM_FRAMES)
    for index, _, instances in VideoPredictor(cfg, model)(frames):
        evaluator.process([dataset[NUM_FRAMES + index]], [{"instances": instances}])
    assert evaluate_detections("own_set", saved).metrics() == pytest.approx(
        evaluator.evaluate()["bbox"], nan_ok=True
    )
    results = json.loads(saved.read_text())
    assert {r["category_id"] for r in results} <= set(CATEGORY_IDS)
    assert {
        (r["image_id"], r["video_id"], r["frame_index"], r["frame_number"]) for r in results
    } == {(104 + index, "sets/clip", index, 401 + index) for index in range(NUM_FRAMES)}
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()
    assert {int(line.split(",")[0]) for line in lines} == {401, 402, 403, 404}
    summary = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (summary["dataset"], summary["category_ids"]) == ("own_set", CATEGORY_IDS)
    done = rescore_predictions(
        saved, tmp_path / "out.json", dataset=EvaluationDataset.load("own_set", "devkit")
    )
    assert done.num_detections == len(results)


def test_a_video_that_is_not_of_the_dataset_is_numbered(dataset, tmp_path):
    cfg = tiny_cfg("DATASETS.TEST", ("own_set",))
    write_frames(tmp_path / "another", make_frames(2))
    frames, name = frames_of_source(cfg, FolderSource(tmp_path / "another"), 2)
    assert name == ""
    assert frames == [
        {"image_id": index, "video_id": "another", "frame_index": index} for index in range(2)
    ]
    # A frame too many: the video is not the dataset's.
    write_frames(tmp_path / "clip", make_frames(NUM_FRAMES + 1))
    frames, name = frames_of_source(cfg, FolderSource(tmp_path / "clip"), NUM_FRAMES + 1)
    assert (len(frames), name) == (NUM_FRAMES + 1, "")


def test_a_dataset_that_is_not_here(clean_catalogs):
    def absent():
        raise FileNotFoundError("there is no file labels.json")

    DatasetCatalog.register("elsewhere", absent)
    MetadataCatalog.get("elsewhere").set(thing_classes=["dog", "cat"])
    cfg = tiny_cfg("DATASETS.TEST", ("elsewhere", "unheard_of"))
    assert known_classes(cfg) == Classes(["dog", "cat"], [0, 1])


def test_the_operating_point_of_the_weights(tmp_path):
    """E5: the score of the best F1, from the weights' folder or an evaluation beside them."""
    weights = ("MODEL.WEIGHTS", str(tmp_path / "model_final.pth"), "DATASETS.TEST", ("own_set",))
    assert operating_threshold(tiny_cfg(*weights))[0] == 0.5
    values = {"f1": 0.8, "precision": 0.84, "recall": 0.76}
    for folder, score in ((tmp_path / "inference" / "own_set", 0.34), (tmp_path, 0.4)):
        folder.mkdir(parents=True, exist_ok=True)
        content = {"overall": {"score": score, **values}}
        (folder / "operating_point.json").write_text(json.dumps(content))
        threshold, why = operating_threshold(tiny_cfg(*weights))
        assert threshold == score
        assert "precision 0.84, recall 0.76" in why
    assert operating_threshold(tiny_cfg("MODEL.WEIGHTS", ""))[0] == 0.5
