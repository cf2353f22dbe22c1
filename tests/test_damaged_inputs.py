"""What others give a run, damaged at random: it is read, or refused with its name."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import NUM_INPUTS, check_damage
from PIL import Image

from iff_detectron2.data.moving_shapes.options import MovingShapesOptions
from iff_detectron2.data.moving_shapes.storage import (
    MARKER,
    VERSION,
    check_writable,
    find_complete,
)
from iff_detectron2.engine import load_config
from iff_detectron2.engine.checkpoint import VideoCheckpointer
from iff_detectron2.engine.converters import read_weights
from iff_detectron2.evaluation.operating_point import load_operating_point
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.video.frames import read_frame

OPTIONS = MovingShapesOptions(num_train_videos=0, num_val_videos=1)
WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.zeros(2)}


def write_weights(path: Path) -> None:
    torch.save({"model": WEIGHTS, "iteration": 3}, path)


def read_checkpoint(path: Path) -> None:
    model = torch.nn.ModuleDict({"layer": torch.nn.Linear(3, 2)})
    VideoCheckpointer(model, needs="nothing").load(str(path))


def write_arrays(path: Path) -> None:
    np.savez(path, **{name: value.numpy() for name, value in WEIGHTS.items()})


def read_arrays(path: Path) -> None:
    assert all(isinstance(value, torch.Tensor) for value in read_weights(str(path)).values())


def write_config(path: Path) -> None:
    path.write_text(
        "MODEL:\n  META_ARCHITECTURE: VideoRCNN\n  PIXEL_MEAN: [1.0, 2, 3]\n  MASK_ON: False\n"
        "SOLVER:\n  STEPS: (3, 4)\n  CLIP_GRADIENTS: {ENABLED: True}\nOUTPUT_DIR: ./out\n"
    )


def read_config(path: Path) -> None:
    load_config(str(path))


def write_picture(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def read_picture(path: Path) -> None:
    assert read_frame(str(path), "BGR").ndim == 3


def write_point(path: Path) -> None:
    path.write_text('{"overall": {"score": 0.5, "f1": 0.25, "precision": 1.0, "recall": null}}')


def read_point(path: Path) -> None:
    point = load_operating_point(path)
    assert point is None or math.isfinite(point.score)


def write_marker(path: Path) -> None:
    content = {"generator": "MovingShapes", "version": VERSION, "options": OPTIONS.to_json()}
    with open_atomically(path) as stream:
        json.dump({**content, "digests": {"val": "1234"}}, stream)


def read_marker(path: Path) -> None:
    find_complete(path.parent, OPTIONS)
    check_writable(path.parent, OPTIONS, overwrite=False)


FILES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "weights.pth": (write_weights, read_checkpoint),
    "others.pth": (write_weights, read_arrays),
    "weights.npz": (write_arrays, read_arrays),
    "config.yaml": (write_config, read_config),
    "frame.jpg": (write_picture, read_picture),
    "frame.png": (write_picture, read_picture),
    "operating_point.json": (write_point, read_point),
    MARKER: (write_marker, read_marker),
}


@NUM_INPUTS
@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_seen_or_does_no_harm(tmp_path, name, num_inputs):
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    write, read = FILES[name]
    path = tmp_path / name
    write(path)
    # For a marker of other options, the folder is named.
    names = (str(tmp_path),) if name == MARKER else ()
    assert check_damage(path, lambda: read(path), num_inputs, names) > num_inputs / 20
