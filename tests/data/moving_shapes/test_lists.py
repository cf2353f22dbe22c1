"""Lists in the format of ImageNet VID, against hand-made cases and the released list."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import pytest

from iff_detectron2.data.moving_shapes import (
    train_frame_indices,
    train_list_lines,
    val_list_lines,
)


def test_train_frames_are_bin_centres() -> None:
    assert train_frame_indices(300) == list(range(10, 300, 20))
    assert train_frame_indices(31) == list(range(1, 31, 2))
    assert train_frame_indices(47) == [1, 4, 7, 10, 14, 17, 20, 23, 26, 29, 32, 36, 39, 42, 45]


@pytest.mark.parametrize("length", [1, 6, 14, 15])
def test_short_videos_give_every_frame_once(length: int) -> None:
    assert train_frame_indices(length) == list(range(length))


def test_train_frames_equal_the_released_list(shared_dir: Path) -> None:
    released = defaultdict(list)
    lengths = {}
    for line in (shared_dir / "data/ImageSets/VID_train_15frames.txt").read_text().splitlines():
        folder, _, frame, length = line.split()
        released[folder].append(int(frame))
        lengths[folder] = int(length)
    assert len(released) == 3862
    differing = 0
    for folder, frames in released.items():
        length = lengths[folder]
        ours = train_frame_indices(length)
        assert len(ours) == len(frames)
        for i, (our, their) in enumerate(zip(ours, frames, strict=True)):
            if our != their:
                # The release rounded a few centres down that are exactly whole numbers.
                centre = Fraction((2 * i + 1) * length, 2 * len(frames))
                assert centre.denominator == 1
                assert (our, their) == (centre, centre - 1)
                differing += 1
    assert differing < 0.01 * sum(lengths[folder] >= 15 for folder in released) * 15


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
