"""What tables of boxes have in common: columns of numpy, and rows that belong to frames."""

from __future__ import annotations

import numpy as np


def row_starts(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """Return for each frame its first row, and the number of rows at the end, [num_frames + 1]."""
    return np.concatenate(([0], np.cumsum(np.bincount(frames, minlength=num_frames))))


def set_column(frozen: object, name: str, value: np.ndarray) -> None:
    """Set a field of a frozen dataclass, from its `__post_init__`.

    Args:
        frozen: the dataclass.
        name: of the field.
        value: of the field.
    """
    object.__setattr__(frozen, name, value)


def check_frames(frames: np.ndarray, num_frames: int, what: str) -> None:
    """Raise a ValueError if a row belongs to no frame.

    Args:
        frames: row of the frame of each box.
        num_frames: frames that there are.
        what: the table's name, for errors.
    """
    if frames.size and not 0 <= frames.min() <= frames.max() < num_frames:
        bad = frames[(frames < 0) | (frames >= num_frames)][0]
        raise ValueError(f"{what}: frame row {bad} is outside 0..{num_frames - 1}")


def check_lengths(expected: int, what: str, **columns: np.ndarray) -> None:
    """Raise a ValueError if a column has another number of rows.

    Args:
        expected: number of rows.
        what: the table's name, for errors.
        columns: columns by name.
    """
    for name, column in columns.items():
        if len(column) != expected:
            raise ValueError(f"{what}: {name} has {len(column)} rows, frames has {expected}")
