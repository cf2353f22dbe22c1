"""Options out of range are refused with a sentence that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from iff_detectron2.data.moving_shapes import MovingShapesOptions, generate_moving_shapes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"num_train_videos": -2}, "num_train_videos must be at least 0, got -2"),
        ({"num_train_videos": 0, "num_val_videos": 0}, "both 0"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"num_val_frames": 0}, "num_val_frames must be at least 1, got 0"),
        ({"num_frames": 10**7}, "six digits"),
        ({"size": (32, 160)}, "width must be at least 64, got 32"),
        ({"size": (224, 10)}, "height must be at least 64, got 10"),
        ({"size": (5000, 160)}, "width must be at most 4096"),
        ({"size": (224,)}, r"size must be \(width, height\)"),
        ({"max_objects": 0}, "max_objects must be at least 1, got 0"),
        ({"max_objects": 21}, "max_objects must be at most 20, got 21"),
        ({"severity": -0.1}, r"severity must be within \[0, 2\], got -0.1"),
        ({"severity": 2.5}, r"severity must be within \[0, 2\], got 2.5"),
        ({"severity": float("nan")}, "severity"),
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
    ],
)
def test_values_out_of_range(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        generate_moving_shapes(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("options", [{"seed": 1.5}, {"num_frames": "32"}, {"max_objects": True}])
def test_counts_must_be_whole_numbers(options: dict) -> None:
    with pytest.raises(TypeError, match="must be a whole number"):
        MovingShapesOptions(**options)


def test_val_videos_are_a_quarter_longer_by_default() -> None:
    assert MovingShapesOptions(num_frames=40).video_length("val") == 50
    assert MovingShapesOptions(num_frames=40, num_val_frames=7).video_length("val") == 7
