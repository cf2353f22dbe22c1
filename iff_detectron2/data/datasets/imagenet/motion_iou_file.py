"""Motion IoUs of ImageNet VID val as FGFA ships them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def read_fgfa_motion_iou(path: str | Path, boxes_per_frame: Sequence[int]) -> np.ndarray:
    """Read the motion IoUs that FGFA ships for ImageNet VID val (a .mat file).

    Args:
        path: file with the variable `motion_iou`, one cell a frame in the order of the list.
        boxes_per_frame: number of annotated boxes of each frame, in the same order.

    Returns:
        Shape [sum of boxes_per_frame], in the order of the annotations.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if scipy, which reads the format, is missing.
        ValueError: if the file does not belong to these frames.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Motion IoU file {path} does not exist")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs scipy: run `pip install scipy`, or leave the file out to "
            "compute motion IoU from track ids"
        ) from error
    content = loadmat(str(path))
    if "motion_iou" not in content:
        raise ValueError(f"{path} has no variable `motion_iou`; it is not FGFA's file")
    cells = content["motion_iou"].reshape(-1)
    if len(cells) != len(boxes_per_frame):
        raise ValueError(
            f"{path} has {len(cells)} frames, the dataset has {len(boxes_per_frame)}; the file "
            "must belong to the frames that are evaluated"
        )
    # A frame without boxes holds an array without elements; whole numbers come as integers.
    values = [np.asarray(cell, dtype=np.float64).reshape(-1) for cell in cells]
    for row, (value, count) in enumerate(zip(values, boxes_per_frame, strict=True)):
        if len(value) != count:
            raise ValueError(
                f"{path}: frame row {row} has {len(value)} motion values, the dataset has {count} "
                "boxes there; both must come from the same annotations, none left out"
            )
    return np.concatenate([np.empty(0), *values])
