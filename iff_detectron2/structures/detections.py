"""A detector's output as columns: its one form from the model to the evaluator and the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .columns import check_frames, check_lengths, row_starts, set_column

NO_TRACK = -1


@dataclass(frozen=True)
class Detections:
    """Detections of a list of frames, one row per detection.

    Attributes:
        frames: shape [N], int32, row in the list of frames, 0-based: the position in the dataset,
            or, in a list of all frames of one video, the frame index.
        boxes: shape [N, 4], XYXY in pixels; float32 is kept as it is, to save memory.
        scores: shape [N]; float32 is kept likewise.
        classes: shape [N], int32, 0-based.
        track_ids: shape [N], int64, unique in a video, `NO_TRACK` for none; None where nothing was
            tracked.
        sizes: shape [N, 2], width and height x2 - x1 and y2 - y1 as they were given, where that
            was the form; a last bit that is rounded otherwise decides ties in protocol `coco`.
        masks: shape [N], COCO's run lengths `{"size": [H, W], "counts": str}` of each; None where
            the detector gives none.
        keypoints: shape [N, K, 3], x and y in pixels and a score; None likewise.

    Raises:
        ValueError: if the columns differ in length, or numbers that should be whole are not.
    """

    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    track_ids: np.ndarray | None = None
    sizes: np.ndarray | None = None
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self) -> None:
        set_column(self, "frames", _integers(self.frames, "frames", np.int32))
        set_column(self, "boxes", _floats(self.boxes).reshape(-1, 4))
        set_column(self, "scores", _floats(self.scores).reshape(-1))
        set_column(self, "classes", _integers(self.classes, "classes", np.int32))
        if self.track_ids is not None:
            set_column(self, "track_ids", _integers(self.track_ids, "track_ids", np.int64))
        if self.sizes is not None:
            set_column(self, "sizes", np.asarray(self.sizes, dtype=np.float64).reshape(-1, 2))
        if self.masks is not None:
            set_column(self, "masks", np.asarray(self.masks, dtype=object).reshape(-1))
        if self.keypoints is not None:
            set_column(self, "keypoints", _floats(self.keypoints))
        check_lengths(len(self.frames), "Detections", **self._columns())

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in columns.items() if column is not None}

    @classmethod
    def empty(cls) -> Detections:
        """Return a table without rows."""
        nothing = np.empty(0)
        return cls(nothing, nothing, nothing, nothing)

    @classmethod
    def concatenate(cls, parts: Iterable[Detections]) -> Detections:
        """Return the rows of all parts, one part after the other.

        Raises:
            ValueError: if only some of the parts that have rows know tracks or sizes.
        """
        columns = [part._columns() for part in parts if len(part)]
        if not columns:
            return cls.empty()
        different = {name for one in columns for name in columns[0].keys() ^ one.keys()}
        if different:
            raise ValueError(f"Detections: only some parts have {' and '.join(sorted(different))}")
        return cls(**{name: np.concatenate([one[name] for one in columns]) for name in columns[0]})

    @classmethod
    def from_instances(cls, frames: Iterable[tuple[int, Any]]) -> Detections:
        """Collect (frame row, Detectron2's `Instances`) pairs.

        Args:
            frames: `Instances` with `pred_boxes`, `scores` and `pred_classes`, and with `track_ids`
                in all of them or none; on any device.
        """
        return cls.concatenate(_from_instances(row, instances) for row, instances in frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: np.ndarray | slice) -> Detections:
        """Return some rows: a slice, a mask [N], or row numbers in the order wanted."""
        return Detections(**{name: column[rows] for name, column in self._columns().items()})

    def tracks(self) -> np.ndarray:
        """Return the track id of each row, [N]; `NO_TRACK` for all where nothing was tracked."""
        return np.full(len(self), NO_TRACK) if self.track_ids is None else self.track_ids

    def row_starts(self, num_frames: int) -> np.ndarray:
        """First row of each frame and the number of rows, for detections sorted by frame."""
        return row_starts(self.frames, num_frames)

    def frames_without(self, num_frames: int) -> np.ndarray:
        """Rows of the frames that have no detection, ascending."""
        return np.flatnonzero(np.bincount(self.frames, minlength=num_frames) == 0)

    def find_bad(self, num_classes: int | None = None) -> tuple[int, str] | None:
        """Look for a detection that nothing can be done with.

        Args:
            num_classes: number of classes of the dataset; None leaves the classes unchecked.

        Returns:
            Row and description of the first bad detection, None if all are usable.
        """
        boxes, scores, classes = self.boxes, self.scores, self.classes
        usable = np.isfinite(scores) & np.isfinite(boxes).all(axis=1)
        usable &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if num_classes is not None:
            usable &= (classes >= 0) & (classes < num_classes)
        if usable.all():
            return None
        row = int(np.argmin(usable))
        box = [float(value) for value in boxes[row]]
        if not np.isfinite(scores[row]):
            return row, f"score {scores[row]} is not a finite number"
        if num_classes is not None and not 0 <= classes[row] < num_classes:
            return row, f"category {classes[row]} is not one of the {num_classes} known (0-based)"
        if not np.isfinite(boxes[row]).all():
            return row, f"box {box} has a coordinate that is not a finite number"
        return row, f"box {box} (x1, y1, x2, y2) has a width or height of zero or less"

    def check(self, num_frames: int, num_classes: int) -> None:
        """Raise a ValueError that names the first detection that cannot be scored."""
        check_frames(self.frames, num_frames, "Detections")
        bad = self.find_bad(num_classes)
        if bad is not None:
            row, problem = bad
            raise ValueError(f"Detection {row} in frame row {self.frames[row]}: {problem}")

    def sorted_by_frame(self) -> Detections:
        """Return the same detections with frames ascending, the order inside a frame kept."""
        if (np.diff(self.frames) >= 0).all():
            return self
        return self[np.argsort(self.frames, kind="stable")]


def _from_instances(row: int, instances: Any) -> Detections:
    scores = _to_numpy(instances.scores)
    return Detections(
        frames=np.full(len(scores), row),
        boxes=_to_numpy(instances.pred_boxes.tensor),
        scores=scores,
        classes=_to_numpy(instances.pred_classes),
        track_ids=_to_numpy(instances.track_ids) if instances.has("track_ids") else None,
    )


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # numpy has no bfloat16, and half types would be widened in any case.
    half = tensor.is_floating_point() and tensor.element_size() < 4
    return (tensor.float() if half else tensor).numpy()


def _floats(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype == np.float32 else values.astype(np.float64)


def _integers(values: np.ndarray, name: str, dtype: type[np.signedinteger]) -> np.ndarray:
    values = np.asarray(values).reshape(-1)
    if values.dtype == dtype or not values.size:
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if values.dtype.kind not in "iu" or values.min() < limits.min or values.max() > limits.max:
        raise ValueError(
            f"Detections: {name} must be whole numbers in {limits.min}..{limits.max}, got "
            f"{values.dtype} up to {values.max()}"
        )
    return values.astype(dtype)
