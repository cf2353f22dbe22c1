"""A dataset of Detectron2's catalogs as an evaluation needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.catalog import category_ids_of, check_labelled, left_out_of
from iff_detectron2.predictions import FRAME_KEYS
from iff_detectron2.structures import GroundTruth

from .dataset_ground_truth import ground_truth_from_dicts
from .protocols import PROTOCOLS

_FRAME_KEYS = (*FRAME_KEYS, "file_name")


@dataclass(frozen=True)
class EvaluationDataset:
    """Ground truth and identity of a dataset's frames.

    Attributes:
        name: name in the catalogs.
        ground_truth: boxes of all frames; frame rows follow the order of the dataset.
        frames: one dict per frame row with `image_id`, and `video_id`, `frame_index`,
            `frame_number` and `file_name` where the dataset has them.
        category_ids: the dataset's own id of each class; counted from 0 where it has none.
    """

    name: str
    ground_truth: GroundTruth
    frames: Sequence[dict[str, Any]]
    category_ids: Sequence[int]

    @classmethod
    def load(
        cls, name: str, protocol: str = "fgfa", motion_iou_file: str | Path | None = None
    ) -> EvaluationDataset:
        """Read a registered dataset.

        Args:
            name: a registered dataset with `thing_classes` in its metadata.
            protocol: "fgfa", "devkit" or "coco"; only the first asks for motion IoU.
            motion_iou_file: FGFA's .mat for ImageNet VID val; else motion IoU comes from tracks.

        Raises:
            ValueError: for an unknown dataset or protocol, or an unusable dataset, naming the
                image_id.
        """
        if protocol not in PROTOCOLS:
            raise ValueError(f"Unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        if motion_iou_file is not None and protocol != "fgfa":
            raise ValueError(f"motion_iou_file is for protocol 'fgfa', not {protocol!r}")
        if name not in DatasetCatalog:
            known = ", ".join(sorted(DatasetCatalog)) or "none"
            raise ValueError(f"Dataset {name!r} is not registered; known are {known}")
        metadata = MetadataCatalog.get(name)
        dataset_dicts = DatasetCatalog.get(name)
        if not dataset_dicts:
            raise ValueError(f"Dataset {name!r} has no frames to evaluate")
        check_labelled(name)
        if left_out := left_out_of(name):
            raise ValueError(
                f"Dataset {name!r} is without {len(left_out)} images whose labels cannot be read, "
                f"so it cannot be scored; the first: {next(iter(left_out.values()))}"
            )
        class_names = metadata.get("thing_classes")
        if not class_names:
            raise ValueError(f"Dataset {name!r} has no `thing_classes` in its metadata")
        ground_truth = ground_truth_from_dicts(
            dataset_dicts, class_names, motion_iou_file, with_motion=protocol == "fgfa"
        )
        frames = [{key: d[key] for key in _FRAME_KEYS if key in d} for d in dataset_dicts]
        different = len({frame["image_id"] for frame in frames})
        if different != len(frames):
            raise ValueError(
                f"Dataset {name!r} has {len(frames)} frames, but only {different} different "
                "image_ids; each frame needs its own"
            )
        return cls(name, ground_truth, frames, category_ids_of(name))
