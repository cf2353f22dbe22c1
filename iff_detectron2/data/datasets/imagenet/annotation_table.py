"""The annotations of many image files as a few arrays, and their form on disk."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iff_detectron2.utils.files import open_atomically

from .xml_file import XMLAnnotation

# A damaged head looks like a newer, or an encrypted, zip file.
_UNPACKING = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class AnnotationTable:
    """Annotations of N images with M objects in all, image after image.

    Attributes:
        sizes: shape [N, 2], int32, width and height in pixels.
        counts: shape [N], int32, objects of each image.
        names: the class names that occur, each once.
        name_ids: shape [M], int32, index into `names`.
        boxes: shape [M, 4], float64, XYXY in pixels as written.
        track_ids: shape [M], int64, -1 where the file has none.
    """

    sizes: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]
    name_ids: np.ndarray
    boxes: np.ndarray
    track_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    def starts(self) -> np.ndarray:
        """First object of each image, and M as the last entry; shape [N + 1], int64."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])

    def rows(self, start: int, stop: int, starts: np.ndarray) -> AnnotationTable:
        """Return the images from `start` to `stop`, exclusive, given `starts()`.

        Args:
            start: first image.
            stop: image behind the last one.
            starts: what `starts()` returned, so that it is computed once.
        """
        objects = slice(starts[start], starts[stop])
        return AnnotationTable(
            self.sizes[start:stop],
            self.counts[start:stop],
            self.names,
            self.name_ids[objects],
            self.boxes[objects],
            self.track_ids[objects],
        )


def make_table(annotations: Iterable[XMLAnnotation]) -> AnnotationTable:
    """Put annotations into arrays."""
    numbers: dict[str, int] = {}
    sizes, counts, name_ids, boxes, track_ids = [], [], [], [], []
    for annotation in annotations:
        sizes.append((annotation.width, annotation.height))
        counts.append(len(annotation.objects))
        for item in annotation.objects:
            name_ids.append(numbers.setdefault(item.name, len(numbers)))
            boxes.append(item.box)
            track_ids.append(-1 if item.track_id is None else item.track_id)
    return AnnotationTable(
        np.array(sizes, dtype=np.int32).reshape(-1, 2),
        np.array(counts, dtype=np.int32),
        tuple(numbers),
        np.array(name_ids, dtype=np.int32),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(track_ids, dtype=np.int64),
    )


def concatenate(tables: Sequence[AnnotationTable]) -> AnnotationTable:
    """Join tables, one below the other."""
    numbers: dict[str, int] = {}
    name_ids = []
    for table in tables:
        new = [numbers.setdefault(name, len(numbers)) for name in table.names]
        name_ids.append(np.array(new, dtype=np.int32)[table.name_ids])
    if not tables:
        return make_table([])
    return AnnotationTable(
        np.concatenate([table.sizes for table in tables]),
        np.concatenate([table.counts for table in tables]),
        tuple(numbers),
        np.concatenate(name_ids),
        np.concatenate([table.boxes for table in tables]),
        np.concatenate([table.track_ids for table in tables]),
    )


def empty_table(num_images: int) -> AnnotationTable:
    """Return a table of images that are not known yet: size 0, no objects."""
    nothing = make_table([])
    return AnnotationTable(
        np.zeros((num_images, 2), dtype=np.int32),
        np.zeros(num_images, dtype=np.int32),
        nothing.names,
        nothing.name_ids,
        nothing.boxes,
        nothing.track_ids,
    )


def save_table(path: Path, table: AnnotationTable, extra: Mapping[str, np.ndarray]) -> None:
    """Write a table and further arrays to an .npz file that appears when it is complete.

    Boxes on whole pixels, which nearly all are, take a third of the space.

    Args:
        path: file to write.
        table: what the XML files say.
        extra: further arrays by name.
    """
    boxes = table.boxes.astype(np.int32) if _whole(table.boxes) else table.boxes
    names = np.frombuffer(json.dumps(table.names).encode("utf-8"), dtype=np.uint8)
    with open_atomically(path, binary=True) as stream:
        np.savez_compressed(
            stream,
            allow_pickle=False,
            sizes=table.sizes,
            counts=table.counts,
            names=names,
            name_ids=table.name_ids,
            boxes=boxes,
            track_ids=table.track_ids,
            **extra,
        )


def load_table(path: Path, extra: Sequence[str]) -> tuple[AnnotationTable, dict[str, np.ndarray]]:
    """Read what `save_table` wrote.

    Args:
        path: the file.
        extra: names of the further arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or was not written by `save_table`.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            table = AnnotationTable(
                arrays["sizes"],
                arrays["counts"],
                tuple(json.loads(arrays["names"].tobytes().decode("utf-8"))),
                arrays["name_ids"],
                arrays["boxes"].astype(np.float64),
                arrays["track_ids"],
            )
            others = {name: arrays[name] for name in extra}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, *_UNPACKING) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    _check(path, table)
    return table, others


def _whole(boxes: np.ndarray) -> bool:
    return bool((boxes == np.round(boxes)).all() and (np.abs(boxes) < 2**31).all())


def _check(path: Path, table: AnnotationTable) -> None:
    """Refuse arrays that do not fit each other."""
    num_images, num_objects = len(table.counts), len(table.name_ids)
    fit = (
        table.sizes.shape == (num_images, 2)
        and table.boxes.shape == (num_objects, 4)
        and table.track_ids.shape == (num_objects,)
        and (table.counts >= 0).all()
        and table.counts.sum() == num_objects
        and (table.name_ids >= 0).all()
        and (table.name_ids < len(table.names)).all()
        and all(isinstance(name, str) for name in table.names)
    )
    if not fit:
        raise ValueError(f"{path} is damaged: its arrays do not fit each other")
