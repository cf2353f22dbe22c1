"""Annotated boxes of a dataset as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .columns import check_frames, check_lengths, row_starts, set_column


@dataclass(frozen=True)
class GroundTruth:
    """Annotated boxes of a dataset, one row per box, and how many frames were listed.

    Attributes:
        num_frames: frames of the dataset, those without objects too.
        class_names: one name per class.
        frames: shape [G], row of the frame a box is in, 0-based.
        boxes: shape [G, 4], XYXY in pixels.
        classes: shape [G], 0-based.
        ignored: shape [G], True for boxes that may be matched but count neither way.
        motion_iou: shape [G], in [0, 1]; None where it is not known.
        motion_note: why `motion_iou` is None.
        sizes: shape [G, 2], width and height x2 - x1 and y2 - y1 as they were annotated, where
            that was the form; a last bit that is rounded otherwise decides ties in `coco`.
        areas: shape [G], annotated area in pixels^2, of the mask where there is one, for the sizes
            of `coco`; None for the area of the box.
        tracks: shape [G], number of the object that a box is of, unique over all videos; None
            where it is not known.
        places: shape [num_frames, 2], number of the video and frame index of each frame; known
            where `tracks` is.
    """

    num_frames: int
    class_names: Sequence[str]
    frames: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    motion_iou: np.ndarray | None = None
    motion_note: str = "no motion IoU was given"
    sizes: np.ndarray | None = None
    areas: np.ndarray | None = None
    tracks: np.ndarray | None = None
    places: np.ndarray | None = None

    def __post_init__(self) -> None:
        what = "GroundTruth"
        set_column(self, "frames", np.asarray(self.frames, dtype=np.int64).reshape(-1))
        set_column(self, "boxes", np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4))
        set_column(self, "classes", np.asarray(self.classes, dtype=np.int64).reshape(-1))
        set_column(self, "ignored", np.asarray(self.ignored, dtype=bool).reshape(-1))
        check_frames(self.frames, self.num_frames, what)
        for name, dtype, shape in (
            ("motion_iou", np.float64, (-1,)),
            ("sizes", np.float64, (-1, 2)),
            ("areas", np.float64, (-1,)),
            ("tracks", np.int64, (-1,)),
            ("places", np.int64, (-1, 2)),
        ):
            column = getattr(self, name)
            if column is not None:
                set_column(self, name, np.asarray(column, dtype=dtype).reshape(shape))
        if (self.tracks is None) != (self.places is None):
            raise ValueError(f"{what}: tracks and places go together, one of them is missing")
        if self.places is not None and len(self.places) != self.num_frames:
            raise ValueError(
                f"{what}: places has {len(self.places)} rows for {self.num_frames} frames"
            )
        check_lengths(len(self.frames), what, **self._columns())
        # A box with x2 == x1 is one pixel wide in the inclusive convention of the labels.
        bad = ~np.isfinite(self.boxes).all(axis=1) | (self.boxes[:, 2:] < self.boxes[:, :2]).any(1)
        bad |= (self.classes < 0) | (self.classes >= len(self.class_names))
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"{what}: box {self.boxes[row].tolist()} (x1, y1, x2, y2) of category "
                f"{self.classes[row]} in frame row {self.frames[row]} is not usable: coordinates "
                f"must be finite with x2 >= x1 and y2 >= y1, the category in "
                f"0..{len(self.class_names) - 1}"
            )
        motion = self.motion_iou
        if motion is not None and not ((motion >= 0) & (motion <= 1)).all():
            row = int(np.argmin((motion >= 0) & (motion <= 1)))
            raise ValueError(f"{what}: motion IoU {motion[row]} of box {row} is outside [0, 1]")

    def _columns(self) -> dict[str, np.ndarray]:
        names = ("frames", "boxes", "classes", "ignored", "motion_iou", "sizes", "areas", "tracks")
        columns = {name: getattr(self, name) for name in names}
        return {name: column for name, column in columns.items() if column is not None}

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def row_starts(self) -> np.ndarray:
        """First row of each frame and the number of rows, for boxes sorted by frame."""
        return row_starts(self.frames, self.num_frames)

    def sorted_by_frame(self) -> GroundTruth:
        """Return the same boxes with frames ascending, the order inside a frame kept."""
        if (np.diff(self.frames) >= 0).all():
            return self
        return self[np.argsort(self.frames, kind="stable")]

    def __getitem__(self, rows: np.ndarray) -> GroundTruth:
        """Boxes of rows; the frames stay what they are."""
        columns: dict[str, Any] = {name: c[rows] for name, c in self._columns().items()}
        return replace(self, **columns)
