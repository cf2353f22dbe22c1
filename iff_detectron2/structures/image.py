"""What a picture is everywhere in this package: uint8 BGR, [H, W, 3]."""

from __future__ import annotations

import numpy as np


def check_bgr_image(image: np.ndarray, name: str = "the frame") -> np.ndarray:
    """Return the image if it is a non-empty uint8 array [H, W, 3], else raise."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"{name} must have shape [H, W, 3], got {list(image.shape)}")
    if image.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8 with values 0..255, got {image.dtype}")
    return image
