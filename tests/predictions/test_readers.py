"""Saved detections read again; each kind of bad input ends with an error that says where."""

from __future__ import annotations

import json

import numpy as np
import pytest
from vid_cases import CLASSES, make_dicts, noisy, run

from iff_detectron2.evaluation import (
    VIDEvaluator,
    evaluate_detections,
    ground_truth_from_dicts,
    read_predictions,
    read_predictions_json,
    read_predictions_text,
)
from iff_detectron2.predictions import batches as prediction_batches
from iff_detectron2.predictions import iterate_videos, write_predictions_json
from iff_detectron2.structures import NO_TRACK


@pytest.fixture
def saved(register, tmp_path):
    """Dataset dicts, metrics, and the folder with the predictions of a run."""
    dicts = make_dicts()
    metrics = run(VIDEvaluator(register(dicts), output_dir=tmp_path), dicts, noisy)["bbox"]
    return dicts, metrics, tmp_path


@pytest.fixture(params=[1, 7, 1 << 16])
def batches(request, monkeypatch):
    monkeypatch.setattr(prediction_batches, "DETECTIONS_PER_BATCH", request.param)


def test_json_gives_the_same_numbers_to_the_digit(saved, batches):
    dicts, metrics, folder = saved
    detections = read_predictions_json(folder / "predictions.json", dicts, [0, 1])
    again = evaluate_detections(ground_truth_from_dicts(dicts, CLASSES), detections).metrics()
    np.testing.assert_equal(dict(again), dict(metrics))


def test_text_holds_the_rounded_detections(saved, batches):
    dicts, _, folder = saved
    exact = read_predictions(folder / "predictions.json", dicts, [0, 1])
    rounded = read_predictions(folder / "predictions.txt", dicts, [0, 1])
    np.testing.assert_array_equal(rounded.frames, exact.frames)
    np.testing.assert_array_equal(rounded.classes, exact.classes)
    np.testing.assert_allclose(rounded.scores, exact.scores, atol=5e-5)
    np.testing.assert_allclose(rounded.boxes, exact.boxes, atol=5.001e-3)


def test_text_lines_may_come_in_any_order(saved):
    dicts, _, folder = saved
    exact = read_predictions_text(folder / "predictions.txt", dicts, 2)
    lines = (folder / "predictions.txt").read_text().splitlines(keepends=True)
    half = next(i for i, line in enumerate(lines) if line.startswith("7 "))
    (folder / "turned.txt").write_text("".join(lines[half:] + lines[:half]))
    turned = read_predictions_text(folder / "turned.txt", dicts, 2)
    np.testing.assert_array_equal(turned.frames, exact.frames)
    np.testing.assert_array_equal(turned.boxes, exact.boxes)


def test_videos(saved, batches):
    dicts, _, folder = saved
    detections = read_predictions_json(folder / "predictions.json", dicts, [0, 1])
    for path, known in (("predictions.json", None), ("predictions.txt", dicts)):
        videos = list(iterate_videos(folder / path, known))
        assert [frames[0]["video_id"] for frames, _ in videos] == ["video0", "video1"]
        said = [frame for frames, _ in videos for frame in frames]
        keys = ("image_id", "video_id", "frame_index")
        assert said == [{key: record[key] for key in keys} for record in dicts]
        for (frames, found), start in zip(videos, (0, 6), strict=True):
            of_video = (detections.frames >= start) & (detections.frames < start + 6)
            assert len(frames) == 6
            np.testing.assert_array_equal(found.frames + start, detections.frames[of_video])
            tolerance = 0 if path.endswith("json") else 5.001e-3
            expected = detections.boxes[of_video]
            np.testing.assert_allclose(found.boxes, expected, rtol=0, atol=tolerance)


def test_tracks_and_frame_numbers_are_read(tmp_path, batches):
    path = tmp_path / "predictions.json"
    content = entries()
    for number, entry in enumerate(content):
        entry["frame_number"] = entry["frame_index"] + 401
        if number % 2:
            entry["track_id"] = 7
    path.write_text(json.dumps(content))
    found = read_predictions_json(path, make_dicts(), [0, 1])
    assert found.track_ids.tolist() == [NO_TRACK, 7] * 12
    (frames, first), _ = iterate_videos(path)
    assert [frame["frame_number"] for frame in frames] == list(range(401, 407))
    assert first.track_ids.tolist() == [NO_TRACK, 7] * 6
    # What was read is written as it was.
    write_predictions_json(tmp_path / "again.json", first, frames)
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == content[: len(again)]


def test_other_category_ids_and_plain_coco_results(tmp_path):
    path = tmp_path / "results.json"
    entry = {"image_id": 2, "category_id": 18, "bbox": [1, 2, 3, 4.5], "score": 1, "id": 7}
    path.write_text(json.dumps([entry, {**entry, "image_id": 1, "category_id": 17}]))
    detections = read_predictions_json(path, make_dicts(), [18, 17])
    assert detections.frames.tolist() == [0, 1]
    assert detections.classes.tolist() == [1, 0]
    assert detections.boxes.tolist() == [[1, 2, 4, 6.5]] * 2
    path.write_text("[]")
    assert len(read_predictions_json(path, make_dicts(), [0, 1])) == 0
    assert list(iterate_videos(path)) == []


def entries():
    return [
        {
            "image_id": r["image_id"],
            "video_id": r["video_id"],
            "frame_index": r["frame_index"],
            "category_id": 1,
            "bbox": [1.0, 2.0, 30.0, 40.0],
            "score": 0.5,
        }
        for r in make_dicts()
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "image_id 3: score nan is not a finite number"),
        ({"score": None}, "image_id 3: score must be a number, got None"),
        ({"score": "0.5"}, "image_id 3: score must be a number, got '0.5'"),
        ({"bbox": [1, 2, 0, 4]}, "image_id 3: box .* width or height of zero or less"),
        ({"bbox": [1, 2, 3, -4]}, "image_id 3: box .* width or height of zero or less"),
        ({"bbox": [1, 2, 3]}, r"image_id 3: bbox must be four numbers .*, got \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, float("inf")]}, "image_id 3: box .* not a finite number"),
        ({"category_id": 2}, "image_id 3: category 2 is not one of the dataset's: 0, 1"),
        ({"category_id": 0.5}, "image_id 3: category_id must be a whole number .*, got 0.5"),
        ({"image_id": 99}, "image_id 99: this frame is not in the dataset, whose 12 frames start"),
        ({"image_id": [3]}, r"image_id must be a number or a name, got \[3\]"),
        ({"frame_index": 3}, "image_id 3: the file says that this is frame 3 of video 'video0'"),
        ({"frame_index": "2"}, "image_id 3: frame_index must be a whole number, got '2'"),
        ({"frame_number": 0.5}, "image_id 3: frame_number must be a whole number, got 0.5"),
        ({"frame_index": 2**70}, "image_id 3: frame_index must be a whole number up to 2147483647"),
        (
            {"frame_number": 2**63},
            "image_id 3: frame_number must be a whole number up to 922337203",
        ),
        ({"video_id": ["v"]}, r"image_id 3: video_id must be a name or a number, got \['v'\]"),
        ({"track_id": -2}, "image_id 3: track_id must be a whole number from 0, got -2"),
        ({"category_id": 2**31}, "image_id 3: category_id must be a whole number up to 2147483647"),
        ({"video_id": "video9"}, "of video 'video9', the dataset frame 2 of 'video0'"),
    ],
)
def test_a_bad_detection_is_named_with_its_place(tmp_path, batches, change, message):
    path = tmp_path / "predictions.json"
    content = entries()
    content[4].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"predictions\.json, detection 4.*{message}"):
        read_predictions_json(path, make_dicts(), [0, 1])


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_field_is_named(tmp_path, key):
    path = tmp_path / "predictions.json"
    content = entries()
    del content[4][key]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"detection 4, image_id .*: it has no '{key}'"):
        read_predictions_json(path, make_dicts(), [0, 1])


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 2, 1], "image_id 2: frames are out of order: frame 1 of video 'video0' comes after 2"),
        ([0, 1, 0], "image_id 1: frames are out of order: frame 0 of video 'video0' comes after 1"),
        ([0, 6, 1], "image_id 2: frames are out of order: video 'video0' goes on after another"),
    ],
)
def test_frames_out_of_order_are_an_error(tmp_path, batches, order, message):
    path = tmp_path / "predictions.json"
    content = entries()
    path.write_text(json.dumps([content[2 * row] for row in order]))
    with pytest.raises(ValueError, match=message):
        read_predictions_json(path, make_dicts(), [0, 1])
    with pytest.raises(ValueError, match=message):
        list(iterate_videos(path))
    detections = read_predictions_json(path, make_dicts(), [0, 1], any_order=True)
    assert detections.frames.tolist() == sorted(order)


def test_videos_need_video_ids(tmp_path):
    path = tmp_path / "predictions.txt"
    path.write_text("1 1 0.5 0.00 0.00 9.00 9.00\n")
    with pytest.raises(ValueError, match="image_id 1: the detections have no video_id"):
        list(iterate_videos(path))
    path.write_text("99 1 0.5 0.00 0.00 9.00 9.00\n")
    with pytest.raises(ValueError, match="image_id 99: this frame is not in the dataset"):
        list(iterate_videos(path, make_dicts()))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 1 nan 1 2 30 40\n", "line 3, image_id 3: score nan"),
        ("3 1 0.5 1 2 1 40\n", "line 3, image_id 3: box .* width or height of zero or less"),
        ("3 1 0.5 9 2 1 40\n", "line 3, image_id 3: box .* width or height of zero or less"),
        ("3 0 0.5 1 2 30 40\n", "line 3, image_id 3: category 0 is not one of the dataset's: 1, 2"),
        ("3 3 0.5 1 2 30 40\n", "line 3, image_id 3: category 3 is not one of the dataset's: 1, 2"),
        ("13 1 0.5 1 2 30 40\n", "line 3, image_id 13: this frame is not in the dataset"),
        ("3 1 0.5 1 2 30\n", "line 3: expected `frame class score x1 y1 x2 y2`, got '3 1 0.5"),
        ("3 1 0.5 1 2 30 40 9\n", "line 3: expected `frame class score x1 y1 x2 y2`"),
        ("3 1 0.5 1 2 thirty 40\n", "line 3: expected `frame class score x1 y1 x2 y2`"),
        ("\n", "line 3: expected `frame class score x1 y1 x2 y2`, got ''"),
        ("3.5 1 0.5 1 2 30 40\n", "line 3: frame id and class, .* must be whole"),
        ("nan 1 0.5 1 2 30 40\n", "line 3: frame id and class, .* must be whole"),
        ("3 1 0.5 1 2 30 4", "line 3: the file is cut off, its last line has no end"),
    ],
)
def test_a_bad_line_is_named(tmp_path, batches, line, message):
    path = tmp_path / "predictions.txt"
    good = [f"{image_id} 1 0.5000 1.00 2.00 30.00 40.00\n" for image_id in (1, 2, 4)]
    ending = [] if not line.endswith("\n") else good[2:]
    path.write_text("".join([*good[:2], line, *ending]))
    with pytest.raises(ValueError, match=rf"predictions\.txt, {message}"):
        read_predictions_text(path, make_dicts(), 2)


def test_missing_files(tmp_path):
    for name in ("none.json", "none.txt"):
        with pytest.raises(FileNotFoundError, match=f"There is no file .*{name}"):
            read_predictions(tmp_path / name, make_dicts(), [0, 1])
