"""Compact arrays of a dataset's ground truth and of a detector's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .checks import find_bad_detection

# The track id of a box that is in no track.
NO_TRACK = -1


def _row_starts(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """Return for each frame its first row, and the number of rows at the end, [num_frames + 1]."""
    return np.concatenate(([0], np.cumsum(np.bincount(frames, minlength=num_frames))))


def _set(frozen: object, name: str, value: np.ndarray) -> None:
    object.__setattr__(frozen, name, value)


def _check_frames(frames: np.ndarray, num_frames: int, what: str) -> None:
    if frames.size and not 0 <= frames.min() <= frames.max() < num_frames:
        bad = frames[(frames < 0) | (frames >= num_frames)][0]
        raise ValueError(f"{what}: frame row {bad} is outside 0..{num_frames - 1}")


def _check_lengths(expected: int, what: str, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if len(array) != expected:
            raise ValueError(f"{what}: {name} has {len(array)} rows, frames has {expected}")


@dataclass(frozen=True)
class GroundTruth:
    """Annotated boxes of a dataset, one row a box, and how many frames were listed.

    Attributes:
        num_frames: frames of the dataset, those without objects too.
        class_names: one name a class.
        frames: shape [G], row of the frame a box is in, 0-based.
        boxes: shape [G, 4], XYXY in pixels.
        classes: shape [G], 0-based.
        ignored: shape [G], True for boxes that may be matched but count neither way.
        motion_iou: shape [G], in [0, 1]; None where it is not known.
        motion_note: why `motion_iou` is None.
        sizes: shape [G, 2], annotated width and height of the boxes; None if the annotations have
            corners. x2 - x1 may differ from them in the last bit, and protocol `coco` would then
            break ties between equal overlaps in another way than pycocotools.
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
        _set(self, "frames", np.asarray(self.frames, dtype=np.int64).reshape(-1))
        _set(self, "boxes", np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4))
        _set(self, "classes", np.asarray(self.classes, dtype=np.int64).reshape(-1))
        _set(self, "ignored", np.asarray(self.ignored, dtype=bool).reshape(-1))
        _check_frames(self.frames, self.num_frames, what)
        fields = {"boxes": self.boxes, "classes": self.classes, "ignored": self.ignored}
        if self.motion_iou is not None:
            _set(self, "motion_iou", np.asarray(self.motion_iou, dtype=np.float64).reshape(-1))
            fields["motion_iou"] = self.motion_iou
        if self.sizes is not None:
            _set(self, "sizes", np.asarray(self.sizes, dtype=np.float64).reshape(-1, 2))
            fields["sizes"] = self.sizes
        _check_lengths(len(self.frames), what, **fields)
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
        return _row_starts(self.frames, self.num_frames)

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


@dataclass(frozen=True)
class Detections:
    """A detector's output, one row a detection.

    Attributes:
        frames: shape [N], row of the frame a detection is in, 0-based.
        boxes: shape [N, 4], XYXY in pixels; float32 is kept as it is, to save memory.
        scores: shape [N].
        classes: shape [N], 0-based.
        sizes: shape [N, 2], width and height as they were given, as for `GroundTruth`.
    """

    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray | None = None

    def __post_init__(self) -> None:
        _set(self, "frames", np.asarray(self.frames, dtype=np.int32).reshape(-1))
        _set(self, "boxes", _floating(self.boxes).reshape(-1, 4))
        _set(self, "scores", _floating(self.scores).reshape(-1))
        _set(self, "classes", np.asarray(self.classes, dtype=np.int32).reshape(-1))
        fields = {"boxes": self.boxes, "scores": self.scores, "classes": self.classes}
        if self.sizes is not None:
            _set(self, "sizes", np.asarray(self.sizes, dtype=np.float64).reshape(-1, 2))
            fields["sizes"] = self.sizes
        _check_lengths(len(self.frames), "Detections", **fields)

    def __len__(self) -> int:
        return len(self.frames)

    def row_starts(self, num_frames: int) -> np.ndarray:
        """First row of each frame and the number of rows, for detections sorted by frame."""
        return _row_starts(self.frames, num_frames)

    def frames_without(self, num_frames: int) -> np.ndarray:
        """Rows of the frames that have no detection, ascending."""
        return np.flatnonzero(np.bincount(self.frames, minlength=num_frames) == 0)

    def check(self, num_frames: int, num_classes: int) -> None:
        """Raise a ValueError that names the first detection that cannot be scored."""
        _check_frames(self.frames, num_frames, "Detections")
        bad = find_bad_detection(self.boxes, self.scores, self.classes, num_classes)
        if bad is not None:
            row, problem = bad
            raise ValueError(f"Detection {row} in frame row {self.frames[row]}: {problem}")

    def sorted_by_frame(self) -> Detections:
        """Return the same detections with frames ascending, the order inside a frame kept."""
        if (np.diff(self.frames) >= 0).all():
            return self
        order = np.argsort(self.frames, kind="stable")
        return Detections(
            frames=self.frames[order],
            boxes=self.boxes[order],
            scores=self.scores[order],
            classes=self.classes[order],
            sizes=None if self.sizes is None else self.sizes[order],
        )


def _floating(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype == np.float32 else values.astype(np.float64)
