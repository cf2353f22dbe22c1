"""Motion IoUs of ImageNet VID val as FGFA ships them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .mat_file import read_cells


def read_fgfa_motion_iou(path: str | Path, boxes_per_frame: Sequence[int]) -> np.ndarray:
    """Read the motion IoUs that FGFA ships for ImageNet VID val (a .mat file).

    Args:
        path: file with the variable `motion_iou`, one cell a frame in the order of the list.
        boxes_per_frame: number of annotated boxes of each frame, in the same order.

    Returns:
        Shape [sum of boxes_per_frame], in the order of the annotations.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or does not belong to these frames.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Motion IoU file {path} does not exist")
    # A frame without boxes holds an array without elements.
    values = read_cells(path, "motion_iou")
    if len(values) != len(boxes_per_frame):
        raise ValueError(
            f"{path} has {len(values)} frames, the dataset has {len(boxes_per_frame)}; the file "
            "must belong to the frames that are evaluated"
        )
    for row, (value, count) in enumerate(zip(values, boxes_per_frame, strict=True)):
        if len(value) != count:
            raise ValueError(
                f"{path}: frame row {row} has {len(value)} motion values, the dataset has {count} "
                "boxes there; both must come from the same annotations, none left out"
            )
    return np.concatenate([np.empty(0), *values])
