import json

import cv2
import numpy as np
import pytest

from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2_cli import demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return what the demo draws after two iterations on a small set."""
    folder = tmp_path_factory.mktemp("demo")
    root = folder / "shapes"
    generate_moving_shapes(
        root, num_train_videos=2, num_val_videos=2, num_frames=12, num_workers=1, progress=False
    )
    datasets = [
        f"demo_test_train=moving_shapes:{root}@VID_train_15frames",
        f"demo_test_val=moving_shapes:{root}@VID_val_videos",
    ]
    instant = "quick_schedules/iff_net_C_instant"
    opts = ["DATASETS.REGISTER", str(datasets)]
    opts += ["DATASETS.TRAIN", "['demo_test_train']", "DATASETS.TEST", "['demo_test_val']"]
    cfg, model, dataset = demo._train(instant, folder / "training", opts)
    inference = folder / "training" / "inference" / dataset
    paths = demo.draw_results(cfg, model, dataset, inference, folder / "out")
    return folder, opts, instant, paths


def test_every_picture_is_there(pictures):
    folder, _, _, paths = pictures
    assert {path.name for path in (folder / "out").iterdir()} == {p.name for p in paths.values()}
    for path in paths.values():
        if path.suffix == ".png":
            picture = cv2.imread(str(path))
            assert min(picture.shape[:2]) > 200
            assert len(np.unique(picture)) > 50, path


def test_video_shows_every_frame(pictures):
    *_, paths = pictures
    capture = cv2.VideoCapture(str(paths["annotated video"]))
    frames = 0
    while capture.read()[0]:
        frames += 1
    assert frames == 2 * 15
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 3 * 224


def test_metrics_are_those_of_the_evaluation(pictures):
    *_, paths = pictures
    metrics = json.loads(paths["metrics (JSON)"].read_text())
    assert metrics["dataset"] == "demo_test_val"
    assert "Protocol: FGFA" in paths["metrics (text)"].read_text()


def test_a_finished_demo_trains_no_more(pictures):
    folder, opts, instant, _ = pictures
    before = (folder / "training" / "metrics.json").read_bytes()
    demo._train(instant, folder / "training", opts)
    assert (folder / "training" / "metrics.json").read_bytes() == before


def test_the_panel_shows_what_moves_and_stays_in_view():
    def video(name, speed, seen=range(20)):
        return [
            {
                "video_id": name,
                "frame_index": t,
                "annotations": [{"track_id": 0, "bbox": [speed * t, 0, speed * t + 10, 10]}]
                * (t in seen),
            }
            for t in range(20)
        ]

    dicts = video("slow", 1) + video("leaves", 9, range(8)) + video("fast", 4, range(3, 14))
    shown = demo._fastest_frame(dicts)
    assert (shown["video_id"], shown["frame_index"]) == ("fast", 8)


def test_videos_too_short_for_a_panel_are_an_error():
    with pytest.raises(ValueError, match="11 frames"):
        demo._fastest_frame([{"video_id": "v", "frame_index": 0, "annotations": []}])
