"""Masks, keypoints and regions: from the detector through the journal to JSON and the video."""

import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from toy_models import tiny_cfg
from video_runs import SIZES, make_frames, make_model, write_frames

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.inference.frame_output import FrameOutput, run_lengths
from iff_detectron2.inference.journal import Journal
from iff_detectron2.inference.run import VideoRun, predict_video
from iff_detectron2.video.sources import FolderSource
from iff_detectron2.visualization.image import class_color
from iff_detectron2.visualization.segments import draw_keypoints, draw_mask, draw_regions

HEIGHT, WIDTH = 48, 72
RUN = {"source": {"file": "a.mp4"}, "config": "abc"}


def block(y, x, size=10) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[y : y + size, x : x + size] = True
    return mask


def output(t: int) -> dict:
    """Return all that a detector may give: two things that move right by 2 pixels a frame."""
    instances = Instances((HEIGHT, WIDTH))
    corners = [[4.0 + 2 * t, 5, 14 + 2 * t, 15], [30.0 + 2 * t, 20, 40 + 2 * t, 30]]
    instances.pred_boxes = Boxes(torch.tensor(corners))
    instances.scores = torch.tensor([0.9, 0.8])
    instances.pred_classes = torch.tensor([2, 0])
    masks = torch.stack([block(5, 4 + 2 * t), block(20, 30 + 2 * t)])
    instances.pred_masks = masks
    instances.pred_keypoints = torch.tensor([[[9.0 + 2 * t, 10, 0.7]], [[35.0 + 2 * t, 25, 0.01]]])
    sem_seg = torch.zeros(3, HEIGHT, WIDTH)
    sem_seg[1] = masks[0] * 2.0
    ids = masks[0] * 1 + masks[1] * 2
    infos = [
        {"id": 1, "isthing": True, "category_id": 2, "score": 0.9, "instance_id": 0},
        {"id": 2, "isthing": False, "category_id": 0, "area": 100},
    ]
    return {"instances": instances, "sem_seg": sem_seg, "panoptic_seg": (ids, infos)}


def decoded(code: dict) -> np.ndarray:
    return coco_mask.decode({"size": code["size"], "counts": code["counts"].encode()}).astype(bool)


def check(regions, masks) -> None:
    kinds = [(r["kind"], r["category_id"], r.get("isthing")) for r in regions]
    assert kinds == [
        *(("semantic", 0, None), ("semantic", 1, None)),
        *(("panoptic", 2, True), ("panoptic", 0, False)),
    ]
    expected = [~masks[0], masks[0], masks[0], masks[1]]
    for region, mask in zip(regions, expected, strict=True):
        np.testing.assert_array_equal(decoded(region["segmentation"]), mask)


def test_run_lengths_are_cocos():
    masks = np.random.default_rng(0).random((3, 20, 30)) > 0.5
    for mask, code in zip(masks, run_lengths(masks), strict=True):
        np.testing.assert_array_equal(decoded(code), mask)
        json.dumps(code)


def test_through_the_journal(tmp_path):
    with Journal(tmp_path / "j", RUN) as journal:
        for t in range(2):
            journal.append(t, FrameOutput.from_output(t, output(t)))
        journal.append(2, FrameOutput.from_output(2, {"sem_seg": output(2)["sem_seg"]}))
    with Journal(tmp_path / "j", RUN) as journal:
        found, regions = journal.detections(), journal.regions
    assert found.frames.tolist() == [0, 0, 1, 1]
    for row, t in enumerate([0, 0, 1, 1]):
        instances = output(t)["instances"]
        np.testing.assert_array_equal(
            decoded(found.masks[row]), instances.pred_masks[row % 2].numpy()
        )
        np.testing.assert_array_equal(
            found.keypoints[row], instances.pred_keypoints[row % 2].double().numpy()
        )
    for t in range(2):
        check(regions[t], output(t)["instances"].pred_masks.numpy())
    assert [region["kind"] for region in regions[2]] == ["semantic", "semantic"]


class Stub(VideoPredictor):
    """A predictor whose detector gives everything, at once."""

    def push_outputs(self, frame):
        self._given = getattr(self, "_given", -1) + 1
        return [(self._given, output(self._given))]

    def flush_outputs(self):
        return []


@pytest.mark.parametrize("postprocess", ["", "seq_nms_plus"])
def test_through_a_run(tmp_path, postprocess):
    write_frames(tmp_path / "clip", make_frames(4, HEIGHT, WIDTH))
    cfg = tiny_cfg(*SIZES, "TEST.VIDEO.POSTPROCESS", postprocess)
    predictor = Stub(cfg, make_model())
    source = FolderSource(tmp_path / "clip")
    plan = VideoRun(tmp_path / "out", progress=False)
    assert predict_video(cfg, predictor, source, plan, report=lambda _: None)
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(results) == 8
    for result in results:
        t, row = result["frame_index"], 0 if result["category_id"] == 2 else 1
        instances = output(t)["instances"]
        expected = instances.pred_masks[row].numpy()
        np.testing.assert_array_equal(decoded(result["segmentation"]), expected)
        points = instances.pred_keypoints[row].double().flatten().tolist()
        assert result["keypoints"] == points
        assert ("track_id" in result) == bool(postprocess)
    segments = json.loads((tmp_path / "out" / "segments.json").read_text())
    assert [s["frame_index"] for s in segments] == [t for t in range(4) for _ in range(4)]
    for t in range(4):
        check(segments[4 * t : 4 * t + 4], output(t)["instances"].pred_masks.numpy())
    capture = cv2.VideoCapture(str(tmp_path / "out" / "annotated.webm"))
    assert capture.read()[0]


def test_a_mask_is_tinted_and_its_outline_drawn():
    picture = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    (code,) = run_lengths(block(5, 4)[None].numpy())
    draw_mask(picture, code, (0, 0, 200))
    assert picture[10, 9].tolist() == [55, 55, 145]  # 0.55 of the picture, 0.45 of the colour
    assert picture[5, 9].tolist() == [0, 0, 200]
    assert (picture[~block(5, 4).numpy()] == 100).all()


def test_keypoints_of_a_low_score_are_left_out():
    picture = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    draw_keypoints(picture, np.array([[10, 20, 0.9], [50, 20, 0.01]]), (0, 0, 200))
    assert picture[20, 10].tolist() == [0, 0, 200]
    assert (picture[:, 40:] == 100).all()


def test_regions_have_the_colour_of_their_class_and_panoptic_ones_win():
    frame = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    regions = FrameOutput.from_output(0, output(0)).regions
    picture = draw_regions(frame, regions)
    assert (frame == 100).all()
    assert picture[5, 9].tolist() == list(class_color(2))
    assert (picture[40:, :20] == 100).all()  # the semantic background is not drawn
    only_semantic = draw_regions(frame, regions[:2])
    assert (only_semantic[40:, :20] != 100).any()
    assert draw_regions(frame, []) is frame
