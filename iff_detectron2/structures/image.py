"""What a picture is everywhere in this package: uint8 BGR, [H, W, 3]."""

from __future__ import annotations

import numpy as np
from detectron2.data import detection_utils
from PIL import Image


def check_bgr_image(image: np.ndarray, name: str = "the frame") -> np.ndarray:
    """Return the image if it is a non-empty uint8 array [H, W, 3], else raise."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"{name} must have shape [H, W, 3], got {list(image.shape)}")
    if image.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8 with values 0..255, got {image.dtype}")
    return image


def in_image_format(image: np.ndarray, image_format: str | None) -> np.ndarray:
    """Convert a picture as `detectron2.data.detection_utils.read_image` converts what it reads.

    Args:
        image: uint8 BGR [H, W, 3].
        image_format: one that Detectron2 knows for INPUT.FORMAT: BGR, YUV-BT.601 or a mode of PIL.

    Returns:
        [H, W, C] (without the last axis in some modes of PIL), uint8 unless the format says
        otherwise; BGR as it is, not copied.

    Raises:
        ValueError: if there is no such format.
    """
    if image_format == "BGR":
        return image
    rgb = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    return detection_utils.convert_PIL_to_numpy(rgb, image_format)
