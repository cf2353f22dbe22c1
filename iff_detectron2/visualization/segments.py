"""Masks, keypoints and regions drawn into a frame.

Detectron2's `Visualizer` draws them well on one picture; on a video its colours change with each
frame, and it takes half a second. Here a track, else a class, keeps its colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .image import Color, class_color

_SHARE = 0.45  # of the colour in what it covers


def draw_mask(picture: np.ndarray, mask: Mapping[str, Any], color: Color) -> None:
    """Tint a mask in place, with its outline.

    Args:
        picture: uint8 BGR [H, W, 3].
        mask: COCO's run lengths, of any size with the shape of the picture.
        color: BGR.
    """
    inside = _decoded(mask, picture.shape[:2])
    tint = np.array(color) * _SHARE
    picture[inside] = np.rint(picture[inside] * (1 - _SHARE) + tint).astype(np.uint8)
    outlines, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, outlines, -1, color, 1)


def draw_keypoints(
    picture: np.ndarray, points: np.ndarray, color: Color, least: float = 0.05
) -> None:
    """Draw keypoints in place.

    Args:
        picture: uint8 BGR [H, W, 3].
        points: [K, 3], x and y in pixels of the picture, and a score.
        color: BGR.
        least: points of a lower score are left out, as Detectron2's `Visualizer` does.
    """
    radius = max(2, min(picture.shape[:2]) // 160)
    for x, y, _ in points[points[:, 2] >= least]:
        cv2.circle(picture, (round(float(x)), round(float(y))), radius + 1, (35, 35, 35), -1)
        cv2.circle(picture, (round(float(x)), round(float(y))), radius, color, -1)


def draw_regions(frame: np.ndarray, regions: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Tint the regions of a semantic or panoptic segmentation; a colour for each class.

    Args:
        frame: uint8 BGR [H, W, 3], left as it is.
        regions: with `category_id`, `isthing` where it is known, and `segmentation`. Of a frame
            with both, the panoptic ones are drawn.
    """
    kinds = {region.get("kind") for region in regions}
    shown = [r for r in regions if "panoptic" not in kinds or r.get("kind") == "panoptic"]
    if not shown:
        return frame
    picture = frame.copy()
    for region in shown:
        # Things and stuff count their classes apart.
        offset = 0 if region.get("isthing", True) else 1000
        draw_mask(picture, region["segmentation"], class_color(region["category_id"] + offset))
    return picture


def _decoded(mask: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    code = {"size": mask["size"], "counts": mask["counts"].encode("ascii")}
    inside = coco_mask.decode(code)
    if inside.shape != size:
        inside = cv2.resize(inside, size[::-1], interpolation=cv2.INTER_NEAREST)
    return inside.astype(bool)
