"""How a video dataset enters Detectron2's catalogs: by name, read on first use, read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .frame_index import FrameIndex

DatasetDicts = list[dict[str, Any]]


class VideoDataset:
    """Dataset dicts and frame index of one dataset, from one reading of its files.

    Args:
        load: reads the files; returns the dataset dicts and the frame index.
    """

    def __init__(self, load: Callable[[], tuple[DatasetDicts, FrameIndex]]) -> None:
        self._load = load

    @cached_property
    def _content(self) -> tuple[DatasetDicts, FrameIndex]:
        return self._load()

    def dicts(self) -> DatasetDicts:
        """Dataset dicts; the list and its dicts are the caller's own, annotations are shared."""
        return [sample.copy() for sample in self._content[0]]

    def frame_index(self) -> FrameIndex:
        """Files of all frames of all videos."""
        return self._content[1]


def register_video_dataset(
    name: str,
    load: Callable[[], tuple[DatasetDicts, FrameIndex]],
    thing_classes: Sequence[str],
) -> None:
    """Register a dataset under `name` without touching the disk.

    Args:
        name: the name that configs use.
        load: reads the files when the dataset is first asked for.
        thing_classes: class names in the order of `category_id`.

    Raises:
        ValueError: the name is empty or taken.
    """
    if not name:
        raise ValueError("a dataset needs a name that is not empty")
    if name in DatasetCatalog:
        raise ValueError(f"a dataset {name!r} is registered already; choose another name")
    if not thing_classes:
        raise ValueError(f"the dataset {name!r} needs at least one class")
    dataset = VideoDataset(load)
    # Metadata first: it refuses to be changed, and a refusal must not leave half a dataset behind.
    MetadataCatalog.get(name).set(
        thing_classes=list(thing_classes),
        evaluator_type="vid",
        frame_index=dataset.frame_index,
    )
    DatasetCatalog.register(name, dataset.dicts)
