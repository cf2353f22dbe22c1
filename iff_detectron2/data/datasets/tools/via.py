"""CSV of the VGG Image Annotator (VIA 2), with one line per region of an image."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.frame_folder import FrameNames
from iff_detectron2.data.datasets.json_file import is_number, shorten
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)
from iff_detectron2.data.datasets.relative_paths import check_relative
from iff_detectron2.data.datasets.text_file import read_text

from .images_of import ReadImage, videos_of_images

_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
# Names that people give the attributes of a region, in the order in which they are looked for.
CLASS_KEYS = ("class", "label", "category", "name", "type", "object")
TRACK_KEYS = ("track_id", "track", "id", "object_id", "instance_id")
_WHAT = "VIA exports a CSV with " + ", ".join(_COLUMNS)


class _Region(NamedTuple):
    label: str
    box: tuple[float, float, float, float]
    track_id: int | str | None
    place: str


def _object(text: str, what: str, place: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {what} must be a JSON object, got {shorten(text)}")
    return value


def _attribute(attributes: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Value of the first attribute of one of these names; of a checkbox, what is ticked."""
    lower = {key.strip().lower(): value for key, value in attributes.items()}
    value = next((lower[key] for key in keys if key in lower), None)
    if isinstance(value, dict):
        ticked = [key for key, is_on in value.items() if is_on]
        value = ticked[0] if len(ticked) == 1 else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value.strip() or None if isinstance(value, str) else None


def _region(row: Mapping[str, str], check: BoxCheck, place: str) -> _Region | None:
    shape = _object(row["region_shape_attributes"], "region_shape_attributes", place)
    if not shape:
        return None  # an image without regions
    if shape.get("name") != "rect":
        check.leave_out(f"regions that are no rectangles ({shorten(shape.get('name'))})", place)
        return None
    values = [shape.get(key) for key in ("x", "y", "width", "height")]
    if not all(map(is_number, values)):
        raise ValueError(f"{place}: x, y, width and height must be numbers, got {shorten(values)}")
    x, y, width, height = map(float, values)  # type: ignore[arg-type]
    attributes = _object(row["region_attributes"], "region_attributes", place)
    track = _attribute(attributes, TRACK_KEYS)
    only = list(attributes)[:1] if len(attributes) == 1 and track is None else []
    label = _attribute(attributes, (*CLASS_KEYS, *(key.strip().lower() for key in only)))
    if label is None:
        raise ValueError(
            f"{place}: region_attributes must have the class as one of {', '.join(CLASS_KEYS)}, "
            f"got {shorten(dict(attributes))}"
        )
    identity = int(track) if track and track.isdecimal() and len(track) < 10 else track
    return _Region(label, (x, y, x + width, y + height), identity, place)


def _read(
    root: Path, path: Path, number: str | None, classes: Sequence[str], check: BoxCheck
) -> tuple[list[LabelledVideo], list[str]]:
    reader = csv.DictReader(read_text(path, _WHAT).splitlines())
    regions: dict[str, list[_Region]] = {}
    try:
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if any(row.get(column) is None for column in _COLUMNS):
                raise ValueError(f"{place}: {_WHAT}; it has {shorten(list(row.values()))}")
            name = check_relative(row["filename"], place)
            of_image = regions.setdefault(name, [])
            region = _region(row, check, place)
            if region is not None:
                of_image.append(region)
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num} is not valid CSV: {error}") from None
    if not regions:
        raise ValueError(f"{path} has no line; {_WHAT}")
    images: dict[str, ReadImage] = {n: partial(_boxes, found) for n, found in regions.items()}
    labels = sorted({region.label for found in regions.values() for region in found})
    known = list(dict.fromkeys([*classes, *labels]))
    return videos_of_images(root, images, number, path), known


def _boxes(regions: Sequence[_Region], number: int, size: tuple[int, int]) -> Iterator[LabelledBox]:
    for region in regions:
        yield LabelledBox(number, region.box, region.label, region.track_id, region.place)


def register_via_csv(
    name: str,
    images: str | Path,
    csv_file: str | Path,
    *,
    number: str | None = None,
    **options: Any,
) -> None:
    """Register images with a CSV of VIA; nothing is read before the dataset is used.

    Files whose names differ only in a number are frames of one video, see `register_coco_frames`;
    images that the CSV does not have are unlabelled. The class of a region is its attribute `class`
    (or another of `CLASS_KEYS`, or the only one), its track `track_id` (or one of `TRACK_KEYS`).

    Args:
        name: the dataset's name in configs.
        images: folder of the images.
        csv_file: the export.
        number: see `register_coco_frames`.
        **options: those of `register_videos`; `annotated_only` is False if left out, and `classes`
            may name one that does not occur.
    """
    FrameNames((), number)
    path = Path(csv_file).expanduser()
    classes = options.get("classes") or ()
    read = partial(_read, Path(images).expanduser(), path, number, classes)
    register_videos(name, read, path, **{"annotated_only": False, **options})
