"""Annotated boxes of a dataset as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    def __post_init__(self) -> None:
        what = "GroundTruth"
        set_column(self, "frames", np.asarray(self.frames, dtype=np.int64).reshape(-1))
        set_column(self, "boxes", np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4))
        set_column(self, "classes", np.asarray(self.classes, dtype=np.int64).reshape(-1))
        set_column(self, "ignored", np.asarray(self.ignored, dtype=bool).reshape(-1))
        check_frames(self.frames, self.num_frames, what)
        fields = {"boxes": self.boxes, "classes": self.classes, "ignored": self.ignored}
        if self.motion_iou is not None:
            set_column(
                self, "motion_iou", np.asarray(self.motion_iou, dtype=np.float64).reshape(-1)
            )
            fields["motion_iou"] = self.motion_iou
        if self.sizes is not None:
            set_column(self, "sizes", np.asarray(self.sizes, dtype=np.float64).reshape(-1, 2))
            fields["sizes"] = self.sizes
        check_lengths(len(self.frames), what, **fields)
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
        order = np.argsort(self.frames, kind="stable")
        return replace(
            self,
            frames=self.frames[order],
            boxes=self.boxes[order],
            classes=self.classes[order],
            ignored=self.ignored[order],
            motion_iou=None if self.motion_iou is None else self.motion_iou[order],
            sizes=None if self.sizes is None else self.sizes[order],
        )
