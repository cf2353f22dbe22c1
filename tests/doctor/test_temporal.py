"""What makes training with reference frames pointless, on hand-made dataset dicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image

from iff_detectron2.doctor.temporal import check_temporal

NUM_FRAMES = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """Write frames of noise, each its own."""
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    paths = [f"{folder}/{number:03d}.png" for number in range(NUM_FRAMES)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    return paths


def record(files: list[str], t: int, **annotation) -> dict:
    box = {"bbox": [t / 9, 2, t / 9 + 5, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": t % 2}
    return {
        "file_name": files[t],
        "video_id": "v",
        "frame_index": t,
        "frame_number": t,
        "video_length": len(files),
        "annotations": [{**box, "track_id": 1, **annotation}],
    }


def problems(dicts: list[dict], videos: dict, classes=("a", "b")) -> list[str]:
    return [f.text for f in check_temporal(dicts, videos, classes) if f.level == "problem"]


def test_a_video_in_order(files) -> None:
    assert problems([record(files, t) for t in range(NUM_FRAMES)], {"v": files}) == []


def test_as_many_videos_as_images(files) -> None:
    dicts = [{**record(files, t), "video_id": f"v{t}", "frame_index": 0} for t in range(3)]
    (text,) = problems(dicts, {f"v{t}": [files[t]] for t in range(3)})
    assert text.startswith("videos of one frame, as many as images")


def test_one_class_for_everything(files) -> None:
    dicts = [record(files, t, category_id=1) for t in range(NUM_FRAMES)]
    assert problems(dicts, {"v": files}) == ["all 60 boxes are of one of 2 classes, 'b'"]
    assert problems(dicts, {"v": files}, ("a",)) == []


def test_a_track_for_every_box(files) -> None:
    dicts = [record(files, t, track_id=t) for t in range(NUM_FRAMES)]
    (text,) = problems(dicts, {"v": files})
    assert text == "every one of 60 boxes has a track id of its own: tracks follow nothing"


def test_one_track_for_objects_far_apart(files) -> None:
    dicts = [record(files, t, bbox=[8 * (t % 2), 2, 8 * (t % 2) + 4, 9]) for t in range(NUM_FRAMES)]
    (text,) = problems(dicts, {"v": files})
    assert text.startswith("59 of 59 boxes do not touch their track's box in the next frame")


def change_files(files: list[str], folder: Path, change: Callable[[int], int | None]) -> list[str]:
    """Return the frames with those of other numbers, or of one colour for None, in their places."""
    paths = [f"{folder}/{number:03d}.png" for number in range(len(files))]
    for number, path in enumerate(paths):
        other = change(number)
        image = Image.new("RGB", (16, 16), (7, 7, 7)) if other is None else Image.open(files[other])
        image.save(path)
    return paths


def test_pictures_of_one_colour(files, tmp_path: Path) -> None:
    grey = change_files(files, tmp_path, lambda number: None)
    dicts = [record(grey, t) for t in range(NUM_FRAMES)]
    assert problems(dicts, {"v": grey}) == ["labelled images of one colour, of 24 looked at"]


def test_references_that_are_the_key_frame_again(files, tmp_path: Path) -> None:
    same = change_files(files, tmp_path, lambda number: 5)
    dicts = [record(same, t) for t in range(NUM_FRAMES)]
    (text,) = problems(dicts, {"v": same})
    assert text == "frames whose next frame is the same picture, of 24 looked at"


def test_a_few_equal_frames_are_a_note(files, tmp_path: Path) -> None:
    some = change_files(files, tmp_path, lambda number: number if number > 10 else 0)
    dicts = [record(some, t) for t in range(NUM_FRAMES)]
    assert problems(dicts, {"v": some}) == []


def test_numbers_out_of_step_with_the_names(files) -> None:
    dicts = [record(files, t) for t in range(NUM_FRAMES)]
    for late in dicts[30:]:
        late["frame_number"] -= 1  # as if a frame had been lost before it was labelled
    assert problems(dicts, {"v": files}) == [
        "videos whose frame numbers are out of step with those in the names of their files"
    ]


@pytest.mark.parametrize("number", [lambda t: t + 5, lambda t: 10 * t])
def test_numbers_that_start_or_step_otherwise(files, number: Callable[[int], int]) -> None:
    dicts = [{**record(files, t), "frame_number": number(t)} for t in range(NUM_FRAMES)]
    assert problems(dicts, {"v": files}) == []
