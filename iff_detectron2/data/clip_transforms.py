"""One draw of the augmentations for all frames of a clip."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T

# States of Python's and of numpy's global generator.
_State = tuple[Any, Any]


class ClipTransforms:
    """Augments the key frame of a clip, and then its other frames by the same draw.

    Most transforms know numbers only, and are applied to every frame as they are. Those that hold a
    picture, as Detectron2's `RandomSaturation` holds the grey key frame that it blends with, are
    made again of each frame, from the same random numbers.
    """

    def __init__(self, augmentations: T.AugmentationList, clip: T.AugInput) -> None:
        """Augment the key frame.

        Args:
            augmentations: drawn from once.
            clip: the key frame, changed in place.
        """
        self._steps: list[tuple[T.Augmentation, T.Transform, _State | None]] = []
        for augmentation in augmentations.augs:
            state = random.getstate(), np.random.get_state()  # noqa: NPY002
            shape = clip.image.shape[:2]
            transform = augmentation(clip)
            remade = _holds_picture(transform, shape)
            self._steps.append((augmentation, transform, state if remade else None))
        self.list = T.TransformList([transform for _, transform, _ in self._steps])

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return another frame of the clip, [H, W, C], augmented as the key frame was."""
        for augmentation, transform, state in self._steps:
            if state is None:
                image = transform.apply_image(image)
            else:
                image = _again(augmentation, image, state)
        return image


def _again(augmentation: T.Augmentation, image: np.ndarray, state: _State) -> np.ndarray:
    now = random.getstate(), np.random.get_state()  # noqa: NPY002
    frame = T.AugInput(image)
    try:
        _set_state(state)
        augmentation(frame)
    finally:
        _set_state(now)
    return frame.image


def _set_state(state: _State) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002


def _holds_picture(transform: T.Transform, shape: tuple[int, ...]) -> bool:
    """Whether a transform has an array with a value for each pixel of an image [H, W]."""
    if isinstance(transform, T.TransformList):
        return any(_holds_picture(part, shape) for part in transform.transforms)
    return any(
        isinstance(value, np.ndarray | torch.Tensor) and tuple(value.shape[:2]) == shape
        for value in vars(transform).values()
    )
