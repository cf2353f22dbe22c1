"""Datasets registered from a config alone: one string a dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..moving_shapes.classes import MOVING_SHAPES_CLASSES
from .imagenet_vid import register_imagenet_vid
from .mot_challenge import register_mot_challenge

_FORMS = (
    "NAME=mot_challenge:PATH[@FIRST-LAST], NAME=imagenet_vid:ROOT@LIST or "
    "NAME=moving_shapes:ROOT@LIST"
)


def _register(name: str, kind: str, rest: str, spec: str) -> None:
    if kind == "mot_challenge":
        match = re.fullmatch(r"(.+)@(\d+)-(\d+)", rest)
        path = match[1] if match else rest
        frames = (int(match[2]), int(match[3])) if match else None
        register_mot_challenge(name, path, frames=frames)
        return
    root, _, image_set = rest.rpartition("@")
    if not root:
        raise ValueError(f"the dataset {spec!r} lacks the list after '@'; write {_FORMS}")
    classes = {c: c for c in MOVING_SHAPES_CLASSES} if kind == "moving_shapes" else None
    register_imagenet_vid(name, root, image_set, classes=classes)


def register_from_specs(specs: Sequence[str]) -> None:
    """Register the datasets that a config names (`DATASETS.REGISTER`).

    Forms, with paths as seen from the working directory:
    `NAME=mot_challenge:PATH[@FIRST-LAST]`, a sequence or a folder of sequences, frames inclusive
    and counted from 1; `NAME=imagenet_vid:ROOT@LIST` and `NAME=moving_shapes:ROOT@LIST`, a tree
    in the layout of ImageNet VID and a list in its `ImageSets` without `.txt`.
    The same spec again does nothing.

    Raises:
        ValueError: a malformed spec, or a name that stands for something else already.
    """
    for spec in specs:
        match = re.fullmatch(r"([^=\s]+)=(mot_challenge|imagenet_vid|moving_shapes):(.+)", spec)
        if match is None:
            raise ValueError(f"cannot read the dataset {spec!r}; write {_FORMS}")
        name, kind, rest = match.groups()
        if name in DatasetCatalog:
            known = MetadataCatalog.get(name).get("register_spec")
            if known == spec:
                continue
            raise ValueError(
                f"the dataset name of {spec!r} stands for something else already"
                + (f" ({known!r})" if known else "")
                + "; choose another name"
            )
        _register(name, kind, rest, spec)
        MetadataCatalog.get(name).register_spec = spec
