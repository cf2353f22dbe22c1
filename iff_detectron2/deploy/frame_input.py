"""From a frame of a video to the input of `frame.pt2`: what Detectron2 does, without it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .manifest import InputSpec


def resized_shape(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Return height and width of a resized frame (Detectron2's ResizeShortestEdge).

    Args:
        height, width: of the frame.
        min_size: what the shorter side becomes, unless the longer one would be more than
            `max_size`; 0 to leave the frame as it is.
        max_size: most pixels of the longer side.
    """
    if not min_size:
        return height, width
    scale = min_size / min(height, width)
    tall, wide = scale * height, scale * width
    # Exactly that, whatever the product above rounds to.
    tall, wide = (min_size, wide) if height < width else (tall, min_size)
    if max(tall, wide) > max_size:
        scale = max_size / max(tall, wide)
        tall, wide = tall * scale, wide * scale
    return int(tall + 0.5), int(wide + 0.5)


def frame_input(frame: np.ndarray, spec: InputSpec) -> Tensor:
    """Resize a frame and order its colours.

    Args:
        frame: uint8 BGR [H, W, 3].
        spec: what is wanted.

    Returns:
        uint8 [1, 3, h, w].

    Raises:
        TypeError, ValueError: for another array, or a frame of another size than the programs are
            for.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise TypeError(f"a frame must be a uint8 numpy array, got {kind}")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame must have shape [H, W, 3], got {list(frame.shape)}")
    if spec.frame_size is not None and frame.shape[:2] != tuple(spec.frame_size):
        height, width = spec.frame_size
        raise ValueError(
            f"the programs were exported for frames of {width}x{height} pixels, got "
            f"{frame.shape[1]}x{frame.shape[0]}; export them for this size, or for any"
        )
    image = frame[..., ::-1] if spec.format == "RGB" else frame
    height, width = resized_shape(frame.shape[0], frame.shape[1], spec.min_size, spec.max_size)
    if spec.min_size:
        picture = Image.fromarray(np.ascontiguousarray(image))
        image = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))[None]
