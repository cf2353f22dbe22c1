"""MovingShapes with masks: `moving_shapes_masks_train` and `moving_shapes_masks_val`."""

from __future__ import annotations

from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.catalog import DatasetDicts, register_video_dataset
from iff_detectron2.data.datasets.builtin import datasets_root
from iff_detectron2.data.moving_shapes import MOVING_SHAPES_CLASSES, moving_shapes_outlines
from iff_detectron2.data.video_index import VideoIndex


def _load(split: str) -> tuple[DatasetDicts, VideoIndex]:
    """Return the frames of MovingShapes, with the outline of each object as its `segmentation`."""
    outlines = moving_shapes_outlines(datasets_root() / "moving_shapes", split)
    name = f"moving_shapes_{split}"
    dicts = DatasetCatalog.get(name)
    for sample in dicts:
        video_id, frame = sample["video_id"], sample["frame_index"]
        sample["annotations"] = [
            {**one, "segmentation": [outlines[video_id, frame, one["track_id"]]]}
            for one in sample["annotations"]
        ]
    return dicts, MetadataCatalog.get(name).frame_index()


def register_outlined_shapes() -> None:
    """Register both splits; nothing is read before it is used."""
    for split in ("train", "val"):
        register_video_dataset(
            f"moving_shapes_masks_{split}",
            partial(_load, split),
            MOVING_SHAPES_CLASSES,
        )
