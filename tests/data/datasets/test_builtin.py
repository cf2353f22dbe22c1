from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.datasets import builtin
from iff_detectron2.data.datasets.builtin import datasets_root
from iff_detectron2.data.moving_shapes.classes import MOVING_SHAPES_CLASSES

NAMES = (
    "imagenet_vid_train",
    "imagenet_vid_val",
    "imagenet_det_30cls_train",
    "moving_shapes_train",
    "moving_shapes_val",
)


def test_import_registers_the_names_without_any_folder(tmp_path) -> None:
    code = (
        "import iff_detectron2.data\n"
        "from detectron2.data import DatasetCatalog\n"
        f"assert set({NAMES!r}) <= set(DatasetCatalog.keys())\n"
    )
    env = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path / "missing")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env, timeout=120)


def test_root_is_looked_up_when_used(fresh_builtins, monkeypatch, tiny_vid) -> None:
    root = tiny_vid(lengths=(3, 2), class_name="n02084071")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    assert len(DatasetCatalog.get("imagenet_vid_val")) == 5
    assert len(DatasetCatalog.get("imagenet_vid_train")) == 5


def test_moving_shapes_use_their_own_classes(fresh_builtins, monkeypatch, tiny_vid) -> None:
    root = tiny_vid(class_name=MOVING_SHAPES_CLASSES[-1])
    root.rename(root.parent / "moving_shapes")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    (annotation,) = DatasetCatalog.get("moving_shapes_val")[0]["annotations"]
    assert annotation["category_id"] == len(MOVING_SHAPES_CLASSES) - 1
    assert MetadataCatalog.get("moving_shapes_val").thing_classes == list(MOVING_SHAPES_CLASSES)


def test_missing_root_says_what_to_do(fresh_builtins, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(
        FileNotFoundError,
        match=r"moving_shapes/ImageSets/VID_val_videos\.txt .*iff-detectron2 synth",
    ):
        DatasetCatalog.get("moving_shapes_val")


def test_the_datasets_of_a_checkout_are_found_from_any_folder(tmp_path, monkeypatch) -> None:
    """The environment goes first, then the working directory, then the checkout."""
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    file = checkout / "iff_detectron2/data/datasets/builtin.py"
    elsewhere.mkdir()
    monkeypatch.setattr(builtin, "__file__", str(file))
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(elsewhere)
    assert datasets_root() == Path("datasets")
    (checkout / "datasets").mkdir(parents=True)
    assert datasets_root() == Path("datasets")  # site-packages/datasets is somebody else's
    (checkout / "train_net.py").touch()
    assert datasets_root() == checkout / "datasets"
    (elsewhere / "datasets").mkdir()
    assert datasets_root() == Path("datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data")
    assert datasets_root() == Path("/data")
