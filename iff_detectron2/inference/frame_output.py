"""All that a detector gives for a frame, in the form of the journal and the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from pycocotools import mask as coco_mask

from iff_detectron2.structures import Detections

Region = dict[str, Any]


@dataclass(frozen=True)
class FrameOutput:
    """What was found in a frame.

    Attributes:
        detections: with masks and keypoints where the detector gives them.
        regions: of a semantic and a panoptic segmentation, one dict per region as it stands in
            `segments.json`: `kind` (semantic or panoptic), `category_id` (the model's number of the
            class, from 0), `isthing`, `segmentation` (COCO's run lengths), and what else a panoptic
            detector says of a segment, such as `score`.
    """

    detections: Detections
    regions: list[Region] = field(default_factory=list)

    @classmethod
    def from_output(cls, index: int, output: Mapping[str, Any]) -> FrameOutput:
        """Collect Detectron2's output for one frame, on the CPU.

        Args:
            index: of the frame.
            output: any of `instances`, `sem_seg` [C, H, W] and `panoptic_seg` (ids [H, W], infos).
        """
        instances = output.get("instances")
        detections = Detections.empty() if instances is None else _detections(index, instances)
        regions = []
        if "sem_seg" in output:
            classes = output["sem_seg"].argmax(dim=0)
            regions += [
                _region("semantic", classes == class_id, {"category_id": class_id})
                for class_id in classes.unique().tolist()
            ]
        if "panoptic_seg" in output:
            ids, infos = output["panoptic_seg"]
            for info in infos or ():
                said = {k: v for k, v in info.items() if isinstance(v, bool | int | float | str)}
                regions.append(_region("panoptic", ids == info["id"], said))
        return cls(detections, regions)


def _region(kind: str, inside: torch.Tensor, said: dict[str, Any]) -> Region:
    return {"kind": kind, **said, "segmentation": run_lengths(inside.numpy()[None])[0]}


def _detections(index: int, instances: Instances) -> Detections:
    found = Detections.from_instances([(index, instances)])
    masks = keypoints = None
    if instances.has("pred_masks"):
        masks = np.empty(len(found), dtype=object)
        masks[:] = run_lengths(np.asarray(instances.pred_masks))
    if instances.has("pred_keypoints"):
        keypoints = instances.pred_keypoints.float().numpy()
    return replace(found, masks=masks, keypoints=keypoints)


def run_lengths(masks: np.ndarray) -> list[dict[str, Any]]:
    """Encode masks [N, H, W] as COCO's run lengths, in the form that JSON holds."""
    found = []
    for mask in masks:
        code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        found.append({"size": list(code["size"]), "counts": code["counts"].decode("ascii")})
    return found
