"""What all formats of COCO's family share: categories and the fields of an instance."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.json_file import (
    AnnotationFile,
    Record,
    integer,
    numbers,
    shorten,
    text,
)

_logger = logging.getLogger(__name__)

# Where the id of a track stands: mmtracking's CocoVID, and everybody else.
TRACK_KEYS = ("instance_id", "track_id")


class Categories:
    """The classes of an annotation file.

    Args:
        file: the file; its `categories` have `id` and `name`, maybe `keypoints`.
        classes: names in the order of `category_id`, to use only some of the file's; all, in the
            order of their ids, if left out.

    Attributes:
        names: class names in the order of Detectron2's `category_id`.

    Raises:
        ValueError: no category, an id twice, or a class that the file lacks.
    """

    def __init__(self, file: AnnotationFile, classes: Sequence[str] | None = None) -> None:
        self._records = file.by_id("categories")
        of_name: dict[str, list[int]] = {}
        for identity, record in sorted(self._records.items()):
            name = text(record, "name", file.place("categories", identity))
            of_name.setdefault(name, []).append(identity)
        for name, same in of_name.items():
            if len(same) > 1:  # Roboflow names a class and the group that it is in alike
                _logger.info("%s: categories %s are all named %r: one class", file.path, same, name)
        ids = {name: same[0] for name, same in of_name.items()}
        self.names = list(ids if classes is None else classes)
        if not self.names:
            raise ValueError(f"{file.path} has no categories; a dataset needs at least one class")
        unknown = [name for name in self.names if name not in ids]
        if unknown:
            raise ValueError(f"{file.path} has no category {unknown[0]!r}; it has {', '.join(ids)}")
        self._contiguous = {ids[name]: number for number, name in enumerate(self.names)}
        self._numbers = {
            identity: number for number, name in enumerate(self.names) for identity in of_name[name]
        }

    def category_id(self, record: Record, place: str) -> int | None:
        """Detectron2's `category_id` of an annotation; None if its class is not used.

        Raises:
            ValueError: the file has no such category.
        """
        identity = integer(record, "category_id", place)
        if identity not in self._records:
            raise ValueError(
                f"{place}: category_id {identity} is not the id of any of the categories "
                f"{sorted(self._records)}"
            )
        return self._numbers.get(identity)

    def metadata(self) -> dict[str, Any]:
        """Detectron2's metadata of the classes and, where there are any, of their keypoints."""
        metadata: dict[str, Any] = {
            "thing_classes": self.names,
            "thing_dataset_id_to_contiguous_id": dict(self._contiguous),
        }
        names = next(
            (r["keypoints"] for i in self._contiguous if (r := self._records[i]).get("keypoints")),
            None,
        )
        if names:
            if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                raise ValueError(f"'keypoints' of a category must be names, got {shorten(names)}")
            # left_x and right_x change places when an image is mirrored.
            swaps = [(n, n.replace("left", "right", 1)) for n in names if "left" in n]
            metadata["keypoint_names"] = list(names)
            metadata["keypoint_flip_map"] = [(a, b) for a, b in swaps if b in names]
        return metadata


def instance(
    record: Record,
    size: tuple[int, int],
    categories: Categories,
    check: BoxCheck,
    place: str,
) -> dict[str, Any] | None:
    """Return a COCO annotation in Detectron2's form, or None if its class or box is left out.

    Args:
        record: `bbox` (x, y, width, height in pixels), `category_id`, and maybe `iscrowd`,
            `instance_id` or `track_id`, `attributes`, `area`, `segmentation`, `keypoints`.
        size: width and height of the image in pixels.
        categories: the classes.
        check: clips boxes and counts what it changes.
        place: file and record, for messages.

    Raises:
        ValueError: a field is missing or unusable.
    """
    x, y, width, height = numbers(record.get("bbox"), 4, "bbox", place)
    category_id = categories.category_id(record, place)
    if category_id is None:
        return None
    if width <= 0 or height <= 0:
        check.drop(place)
        return None
    box = check((x, y, x + width, y + height), *size, place)
    if box is None:
        return None
    annotation: dict[str, Any] = {
        "bbox": list(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category_id,
        "iscrowd": _flag(record, "iscrowd", place),
    }
    track = _track_id(record, place)
    if track is not None:
        annotation["track_id"] = track
    if record.get("area") is not None:
        annotation["area"] = numbers([record["area"]], 1, "'area'", place)[0]
    if record.get("segmentation"):
        mask = segmentation(record["segmentation"], size, check, place)
        if mask is not None:
            annotation["segmentation"] = mask
    if record.get("keypoints"):
        annotation["keypoints"] = _keypoints(record["keypoints"], place)
    return annotation


def _track_id(record: Record, place: str) -> int | str | None:
    """Id of the track; CVAT has it among the attributes, and -1 says that there is none."""
    attributes = record.get("attributes")
    found = [record.get(key) for key in TRACK_KEYS]
    found += [attributes.get("track_id")] if isinstance(attributes, dict) else []
    track = next((value for value in found if value is not None), None)
    if isinstance(track, float) and track.is_integer():
        track = int(track)
    if track is not None and (isinstance(track, bool) or not isinstance(track, int | str)):
        raise ValueError(f"{place}: a track id must be an integer or a text, got {shorten(track)}")
    return None if isinstance(track, int) and track < 0 else track


def segmentation(value: Any, size: tuple[int, int], check: BoxCheck, place: str) -> Any:
    """Return a mask as Detectron2's mapper takes it: polygons, or RLE with compressed counts.

    Polygons of fewer than three points have no area; they are left out and counted.

    Args:
        value: polygons in pixels, or RLE with `size` (height, width) and `counts`.
        size: width and height of the image in pixels.
        check: counts what is left out.
        place: file and record, for messages.

    Returns:
        The mask, None if no polygon is left.

    Raises:
        ValueError: it is neither, or of another size than the image.
    """
    if isinstance(value, list):
        polygons = []
        for polygon in value:
            count = len(polygon) if isinstance(polygon, list) else 1
            if count % 2:
                raise ValueError(
                    f"{place}: a polygon of the segmentation must be points x1, y1, x2, y2, ..., "
                    f"got {shorten(polygon)}"
                )
            numbers(polygon, count, "a polygon of the segmentation", place)
            if count < 6:
                check.leave_out("polygons of fewer than three points", place)
            else:
                polygons.append(polygon)
        return polygons or None
    if not isinstance(value, Mapping) or not isinstance(value.get("counts"), list | str):
        raise ValueError(
            f"{place}: the segmentation must be polygons, or RLE with size and counts, got "
            f"{type(value).__name__}"
        )
    width, height = size
    if value.get("size") != [height, width]:
        raise ValueError(
            f"{place}: the segmentation has size {value.get('size')} (height, width), its image "
            f"{[height, width]}"
        )
    if isinstance(value["counts"], str):
        if not value["counts"].isascii():
            raise ValueError(f"{place}: the 'counts' of the segmentation are not RLE's")
        return {"size": [height, width], "counts": value["counts"]}
    runs = value["counts"]
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != width * height:
        raise ValueError(
            f"{place}: the runs of the segmentation must be integers that add up to the "
            f"{width * height} pixels of its image, got {shorten(runs)}"
        )
    return mask_util.frPyObjects(dict(value), height, width)


def _keypoints(value: Any, place: str) -> list[float]:
    """Keypoints x, y, visibility; the half pixel turns pixel numbers into coordinates, as in
    Detectron2's own COCO reader."""
    count = len(value) if isinstance(value, list) else 0
    if count == 0 or count % 3:
        raise ValueError(
            f"{place}: keypoints must be triples x, y, visibility, got {shorten(value)}"
        )
    values = numbers(value, count, "keypoints", place)
    return [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(values)]


def _flag(record: Record, key: str, place: str) -> int:
    value = record.get(key, 0)
    if value not in (0, 1):
        raise ValueError(f"{place}: {key!r} must be 0 or 1, got {shorten(value)}")
    return int(value)
