"""The one way from a frame to what the network gets: colours, size, tensor."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data import transforms as T

from iff_detectron2.structures.image import in_image_format


def check_image_format(cfg: CfgNode) -> None:
    """Look whether INPUT.FORMAT is a format, and one of as many channels as the model takes.

    Raises:
        ValueError: if it is not.
    """
    image_format = cfg.INPUT.FORMAT
    try:
        pixel = in_image_format(np.zeros((1, 1, 3), np.uint8), image_format)
    except ValueError:
        raise ValueError(
            f"INPUT.FORMAT must be BGR, RGB, L, YUV-BT.601 or another mode that PIL turns RGB "
            f"into, got {image_format!r}"
        ) from None
    channels = pixel.shape[2] if pixel.ndim == 3 else 0
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            raise ValueError(
                f"INPUT.FORMAT {image_format} has {channels or 'no'} channel(s), but MODEL.{key} "
                f"has {len(cfg.MODEL[key])} number(s); give one per channel"
            )


def image_to_tensor(image: np.ndarray) -> torch.Tensor:
    """Turn an image [H, W, C] into a tensor [C, H, W]; numbers with a fraction become float32."""
    tensor = torch.as_tensor(np.array(image.transpose(2, 0, 1), order="C"))
    return tensor.float() if tensor.is_floating_point() else tensor


class NetworkInput:
    """Makes the network's input of a decoded frame, as the test mapper makes it of a file."""

    def __init__(self, cfg: CfgNode) -> None:
        """Keep INPUT.FORMAT and the augmentations of testing.

        Raises:
            ValueError: as `check_image_format`.
        """
        check_image_format(cfg)
        self.image_format: str = cfg.INPUT.FORMAT
        self.augmentations = T.AugmentationList(
            detection_utils.build_augmentation(cfg, is_train=False)
        )

    def __call__(self, frame: np.ndarray) -> torch.Tensor:
        """Convert a frame.

        Args:
            frame: uint8 BGR [H, W, 3].

        Returns:
            [C, h, w], uint8 unless INPUT.FORMAT says otherwise.
        """
        clip = T.AugInput(in_image_format(frame, self.image_format))
        self.augmentations(clip)
        return image_to_tensor(clip.image)
