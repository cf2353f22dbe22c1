"""The rules of the lists, against hand-made cases and every line of the released lists."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from iff_detectron2.data.datasets.imagenet.list_rules import (
    still_list_lines,
    train_frame_indices,
    train_list_lines,
    val_list_lines,
)
from iff_detectron2.data.datasets.imagenet.lists import (
    read_frames_list,
    read_stills_list,
    read_videos_list,
)
from iff_detectron2.data.datasets.imagenet.vid import IMAGENET_VID_CLASSES


def test_train_frames_are_bin_centres() -> None:
    assert train_frame_indices(300) == list(range(10, 300, 20))
    assert train_frame_indices(31) == list(range(1, 31, 2))
    assert train_frame_indices(47) == [1, 4, 7, 10, 14, 17, 20, 23, 26, 29, 32, 36, 39, 42, 45]


@pytest.mark.parametrize("length", [1, 6, 14, 15])
def test_short_videos_give_every_frame_once(length: int) -> None:
    assert train_frame_indices(length) == list(range(length))


@pytest.mark.parametrize("length", [*range(1, 200), 5492, 10**6])
def test_frames_of_any_video_lie_in_their_bins(length: int) -> None:
    frames = train_frame_indices(length)
    count = min(15, length)
    assert len(frames) == count
    for i, frame in enumerate(frames):  # whole numbers only: no rounding in the check
        assert 2 * count * frame <= (2 * i + 1) * length < 2 * count * (frame + 1) + 2 * count
        assert 0 <= frame < length


def test_train_list_is_the_released_one_line_by_line(shared_dir: Path) -> None:
    path = shared_dir / "data/ImageSets/VID_train_15frames.txt"
    videos = list(dict.fromkeys((e.video, e.length) for e in read_frames_list(path)))
    assert sorted(videos) == videos
    lines = train_list_lines(videos)
    assert len(lines) == 57834
    assert lines == path.read_text().splitlines()


def test_val_list_is_the_released_one_line_by_line(shared_dir: Path) -> None:
    path = shared_dir / "data/ImageSets/VID_val_videos.txt"
    videos = [(entry.video, entry.length) for entry in read_videos_list(path)]
    assert sorted(videos) == videos
    assert val_list_lines(videos) == path.read_text().splitlines()


def test_stills_list_has_the_order_and_the_limits_of_the_released_one(shared_dir: Path) -> None:
    path = shared_dir / "data/ImageSets/DET_train_30classes.txt"
    blocks: list[list[str]] = [[]]
    for image in read_stills_list(path):
        new_class = "ILSVRC2014" in image and blocks[-1] and "ILSVRC2013" in blocks[-1][-1]
        if new_class:
            blocks.append([])
        blocks[-1].append(image)
    assert len(blocks) == 30
    for block in blocks:  # the rule must find the order itself
        random.Random(0).shuffle(block)
    lines = still_list_lines(dict(zip(IMAGENET_VID_CLASSES, blocks, strict=True)))
    assert lines == path.read_text().splitlines()


def test_stills_of_2014_come_first_and_only_so_many() -> None:
    images = {
        "n1": ["train/ILSVRC2013_train/a/a_9", "train/ILSVRC2014_train_0001/b", "train/x/a_10"],
        "n2": ["train/ILSVRC2014_train_0001/b"],
        "n01726692": [f"train/ILSVRC2013_train/s/{k}" for k in range(3)],
    }
    assert still_list_lines(images, limit=2) == [
        "train/ILSVRC2014_train_0001/b 1",
        "train/ILSVRC2013_train/a/a_9 1",
        "train/ILSVRC2014_train_0001/b 1",
        *(f"train/ILSVRC2013_train/s/{k} 1" for k in range(3)),  # snakes are not limited
    ]
    with pytest.raises(ValueError, match="at least one image of a class"):
        still_list_lines(images, limit=0)


@pytest.mark.parametrize(("length", "samples"), [(0, 15), (-3, 15), (10, 0)])
def test_senseless_lengths_are_refused(length: int, samples: int) -> None:
    with pytest.raises(ValueError, match=r"at least one frame"):
        train_frame_indices(length, samples)


def test_list_lines() -> None:
    assert train_list_lines([("train/a", 2)]) == ["train/a 1 0 2", "train/a 1 1 2"]
    assert val_list_lines([("val/a", 5), ("val/b", 7), ("val/c", 1)]) == [
        "val/a 1 0 5",
        "val/b 6 0 7",
        "val/c 13 0 1",
    ]
