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
from detectron2.config import CfgNode
from PIL import Image

from iff_detectron2.data.moving_shapes.options import MovingShapesOptions
from iff_detectron2.data.moving_shapes.storage import (
    MARKER,
    VERSION,
    check_writable,
    find_complete,
)
from iff_detectron2.deploy.manifest import (
    FRAME,
    MANIFEST,
    InputSpec,
    Manifest,
    TensorSpec,
    file_hash,
    read_manifest,
)
from iff_detectron2.engine import load_config
from iff_detectron2.engine.checkpoint import VideoCheckpointer
from iff_detectron2.engine.converters import read_weights
from iff_detectron2.evaluation.operating_point import load_operating_point
from iff_detectron2.inference.adapt import check_same_run
from iff_detectron2.structures import TemporalWindow
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


def write_manifest(path: Path) -> None:
    program = path.with_name(FRAME)
    program.write_bytes(b"a program")
    shape = (1, 8, "any", "any")
    Manifest(
        detector="VideoThing",
        made_by={"torch": "2"},
        device="cpu",
        input=InputSpec("BGR", 40, 64, None, (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), 16),
        codes=(TensorSpec("p.feature", "float32", shape),),
        maps=(TensorSpec("p", "float32", shape),),
        fused=(),
        window=TemporalWindow(4, 2, False),
        any_window=True,
        class_names=("a thing", "another"),
        files={FRAME: file_hash(program)},
    ).write(path.parent)


def read_export(path: Path) -> None:
    manifest = read_manifest(path.parent)
    assert set(manifest.files) == {FRAME}  # what it names lies in its folder
    assert len(manifest.window.offsets) < 20_000


def config_of_run(path: Path) -> CfgNode:
    solver = CfgNode({"BASE_LR": 0.001, "MAX_ITER": 100})
    model = CfgNode({"META_ARCHITECTURE": "VideoRCNN", "PIXEL_MEAN": [1.0, 2.0]})
    return CfgNode({"OUTPUT_DIR": str(path.parent), "MODEL": model, "SOLVER": solver})


def write_run(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("last_checkpoint").write_text("model_final.pth")
    path.write_text(config_of_run(path).dump())


def go_on(path: Path) -> None:
    check_same_run(config_of_run(path))


FILES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "weights.pth": (write_weights, read_checkpoint),
    "others.pth": (write_weights, read_arrays),
    "weights.npz": (write_arrays, read_arrays),
    "config.yaml": (write_config, read_config),
    "frame.jpg": (write_picture, read_picture),
    "frame.png": (write_picture, read_picture),
    "operating_point.json": (write_point, read_point),
    MARKER: (write_marker, read_marker),
    MANIFEST: (write_manifest, read_export),
    "adapted/config.yaml": (write_run, go_on),
}

NAMED_BY_FOLDER = (MARKER, MANIFEST, "adapted/config.yaml")


@NUM_INPUTS
@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_seen_or_does_no_harm(tmp_path, name, num_inputs):
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    write, read = FILES[name]
    path = tmp_path / name
    write(path)
    # For what is not of this run, the folder is named.
    names = (str(tmp_path),) if name in NAMED_BY_FOLDER else ()
    assert check_damage(path, lambda: read(path), num_inputs, names) > num_inputs / 20
