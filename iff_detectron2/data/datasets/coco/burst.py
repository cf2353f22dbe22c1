"""BURST: one record per sequence, with a mask per track in each annotated frame."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pycocotools.mask as mask_util

from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.json_file import AnnotationFile, Record, integer, shorten, text
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)
from iff_detectron2.data.datasets.relative_paths import check_relative


def _table(record: Record, key: str, place: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {key!r} must be an object by track, got {shorten(value)}")
    return value


def _paths(record: Record, key: str, place: str) -> list[str]:
    value = record.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{place}: {key!r} must be a list of file names, got {shorten(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{place}: {key!r} has a file name twice")
    return [check_relative(name, place) for name in value]


def _boxes(
    record: Record,
    names: dict[int, str],
    annotated: list[int],
    size: tuple[int, int],
    place: str,
) -> Iterator[LabelledBox]:
    """One box per mask; `size` is (width, height)."""
    categories = _table(record, "track_category_ids", place)
    frames = record.get("segmentations")
    if not isinstance(frames, list) or len(frames) != len(annotated):
        raise ValueError(
            f"{place}: 'segmentations' must have an entry for each of the {len(annotated)} "
            "annotated images"
        )
    for number, masks in zip(annotated, frames, strict=True):
        here = f"{place}, frame {number}"
        for track in _table({"masks": masks}, "masks", here):
            mask = masks[track]
            counts = mask.get("rle") if isinstance(mask, dict) else None
            if not isinstance(counts, str) or not counts.isascii():
                raise ValueError(f"{here}: the mask of track {track!r} must have RLE as 'rle'")
            category = integer(categories, track, f"{place}, track_category_ids")
            if category not in names:
                raise ValueError(f"{here}: track {track!r} is of the unknown category {category}")
            if not track.isdecimal() or len(track) > 9:
                raise ValueError(f"{here}: the track id {shorten(track)} must be an integer")
            rle = {"size": [size[1], size[0]], "counts": counts}
            x, y, w, h = (float(v) for v in mask_util.toBbox(dict(rle)))
            yield LabelledBox(
                number, (x, y, x + w, y + h), names[category], int(track), here, mask=rle
            )


def _read(root: Path, path: Path, check: BoxCheck) -> tuple[list[LabelledVideo], list[str]]:
    file = AnnotationFile(path)
    names = {
        identity: text(record, "name", file.place("categories", identity))
        for identity, record in sorted(file.by_id("categories").items())
    }
    videos = []
    for number, record in enumerate(file.records("sequences")):
        place = f"{path}: sequences[{number}]"
        folders = [text(record, key, place) for key in ("dataset", "seq_name")]
        video = check_relative("/".join(folders), place)
        every = _paths(record, "all_image_paths", place)
        index = {name: position for position, name in enumerate(every)}
        listed = _paths(record, "annotated_image_paths", place)
        missing = next((name for name in listed if name not in index), None)
        if missing is not None:
            raise ValueError(f"{place}: {missing!r} is annotated and not in 'all_image_paths'")
        annotated = [index[name] for name in listed]
        size = integer(record, "width", place, 1), integer(record, "height", place, 1)
        boxes = list(_boxes(record, names, annotated, size, place))
        files = [f"{root}/{video}/{name}" for name in every]
        videos.append(
            LabelledVideo(video, files, range(len(files)), *size, boxes, annotated, place)
        )
    return videos, list(dict.fromkeys(names.values()))


def register_burst(name: str, images: str | Path, json_file: str | Path, **options: Any) -> None:
    """Register a BURST file; nothing is read before the dataset is used.

    Boxes are those around the masks, which are kept as `segmentation`. Frames count from 0 in
    `all_image_paths`.

    Args:
        name: the dataset's name in configs.
        images: folder with `<dataset>/<sequence>/<image>`, as `frames/train`.
        json_file: the annotation file.
        **options: those of `register_videos`; `annotated_only` is False if left out.
    """
    path = Path(json_file).expanduser()
    read = partial(_read, Path(images).expanduser(), path)
    register_videos(name, read, path, **{"annotated_only": False, **options})
