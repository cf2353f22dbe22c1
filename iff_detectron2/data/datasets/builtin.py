"""The datasets that have a name from the start; none is read before it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from iff_detectron2.data.moving_shapes.classes import MOVING_SHAPES_CLASSES

from .imagenet import register_imagenet_vid
from .imagenet.lists import ListForm

_IMAGENET: dict[str, tuple[str, ListForm]] = {
    "imagenet_vid_train": ("VID_train_15frames", "frames"),
    "imagenet_vid_val": ("VID_val_videos", "videos"),
    "imagenet_det_30cls_train": ("DET_train_30classes", "stills"),
}
_MOVING_SHAPES: dict[str, tuple[str, ListForm]] = {
    "moving_shapes_train": ("VID_train_15frames", "frames"),
    "moving_shapes_val": ("VID_val_videos", "videos"),
}


def datasets_root() -> Path:
    """Return the folder of the built-in datasets.

    It is $DETECTRON2_DATASETS; where that is unset `datasets` in the working directory; and where
    there is none, that of the checkout which this package is imported from.
    """
    chosen = os.getenv("DETECTRON2_DATASETS")
    if chosen:
        return Path(chosen).expanduser()
    here, checkout = Path("datasets"), Path(__file__).resolve().parents[3]
    # An installed package has other neighbours, of which one may be called `datasets`.
    there = checkout / "datasets"
    if here.is_dir() or not (there.is_dir() and (checkout / "train_net.py").is_file()):
        return here
    return there


def _below_datasets_root(folder: str) -> Callable[[], Path]:
    """Find `folder` when it is needed, so that DETECTRON2_DATASETS may be set after the import."""
    return lambda: datasets_root() / folder


def register_builtin_datasets() -> None:
    """Register ImageNet VID and DET and MovingShapes under `$DETECTRON2_DATASETS`."""
    for name, (image_set, form) in _IMAGENET.items():
        root = _below_datasets_root("ILSVRC2015")
        register_imagenet_vid(name, root, image_set, list_form=form)
    shapes = {name: name for name in MOVING_SHAPES_CLASSES}
    for name, (image_set, form) in _MOVING_SHAPES.items():
        root = _below_datasets_root("moving_shapes")
        register_imagenet_vid(name, root, image_set, classes=shapes, list_form=form)
