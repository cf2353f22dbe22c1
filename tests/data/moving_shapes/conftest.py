"""Two generated sets that the tests of MovingShapes read."""

from __future__ import annotations

from pathlib import Path

import pytest

from iff_detectron2.data.moving_shapes import generate_moving_shapes

SMALL = {
    "seed": 3,
    "num_train_videos": 4,
    "num_val_videos": 3,
    "num_frames": 17,
    "num_val_frames": 9,
    "size": (128, 96),
    "max_objects": 2,
    "progress": False,
}


@pytest.fixture(scope="session")
def small_options() -> dict:
    """Options of a set that takes a fraction of a second."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small set; tests must not write to it."""
    root = tmp_path_factory.mktemp("small") / "moving_shapes"
    generate_moving_shapes(root, **SMALL, num_workers=1)
    return root


@pytest.fixture(scope="session")
def default_val_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the val split with the default options; tests must not write to it."""
    root = tmp_path_factory.mktemp("default_val") / "moving_shapes"
    generate_moving_shapes(root, num_train_videos=0, num_workers=1, progress=False)
    return root
