"""YouTube-VIS: one JSON record a track, with a box and a mask, or null, for each frame.

`videos`: `id`, `file_names`, `width`, `height`. `annotations`: `id`, `video_id`, `category_id`,
`bboxes`, `segmentations`, `areas`, `iscrowd`. OVIS, UVO and LV-VIS are written in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from iff_detectron2.data.catalog import DatasetDicts, LoadedDataset
from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.frame_folder import (
    UnlistedFrames,
    check_unlisted,
    complete_video,
    numbers_in,
)
from iff_detectron2.data.datasets.json_file import AnnotationFile, Record, reference
from iff_detectron2.data.datasets.relative_paths import check_relative
from iff_detectron2.data.video_index import VideoIndex

from .fields import Categories, instance, segmentation
from .images import frame_size, register_from_file

# Annotations of each frame of a video; None for a frame in which no track has an entry.
_Frames = list[list[dict[str, Any]] | None]


def _per_frame(track: Record, key: str, length: int, place: str) -> list[Any]:
    """Return a track's value for each frame; nulls if the track has none of this kind."""
    values = track.get(key)
    if values is None:
        return [None] * length
    if not isinstance(values, list) or len(values) != length:
        count = len(values) if isinstance(values, list) else repr(values)
        raise ValueError(
            f"{place}: {key!r} must have an entry for each of the {length} frames of its video, "
            f"got {count}"
        )
    return values


def _box_of_mask(mask: Any) -> list[float]:
    """x, y, width, height around polygons or RLE."""
    if isinstance(mask, Mapping):
        return [float(v) for v in mask_util.toBbox(dict(mask))]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in mask])
    low, high = points.min(axis=0), points.max(axis=0)
    return [float(v) for v in (*low, *(high - low))]


def _add_track(
    frames: _Frames,
    identity: int,
    track: Record,
    size: tuple[int, int],
    categories: Categories,
    check: BoxCheck,
    place: str,
) -> None:
    """Put what a track has in each frame into the frames."""
    boxes = _per_frame(track, "bboxes", len(frames), place)
    masks = _per_frame(track, "segmentations", len(frames), place)
    areas = _per_frame(track, "areas", len(frames), place)
    for number, (box, mask, area) in enumerate(zip(boxes, masks, areas, strict=True)):
        if box is None and not mask:
            continue
        of_frame = frames[number] or []
        frames[number] = of_frame
        here = f"{place}, frame {number}"
        if box is None:
            usable = segmentation(mask, size, check, here)
            if usable is None:
                continue
            box = _box_of_mask(usable)
        record = {
            "bbox": box,
            "category_id": track.get("category_id"),
            "iscrowd": track.get("iscrowd", 0),
            "area": area,
            "segmentation": mask,
            "track_id": identity,
        }
        annotation = instance(record, size, categories, check, here)
        if annotation is not None:
            of_frame.append(annotation)


def _file_names(video: Record, place: str) -> list[str]:
    names = video.get("file_names")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{place}: 'file_names' must be a list of file names, got {names!r}")
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"{place}: the frame {twice!r} is listed twice")
    return [check_relative(name, place) for name in names]


def _video_ids(names: Mapping[int, list[str]]) -> dict[int, str]:
    """Return the folder of each video; the id in the file where two share a folder."""
    folders = {video: files[0].rpartition("/")[0] for video, files in names.items()}
    distinct = len(set(folders.values())) == len(folders) and all(folders.values())
    return folders if distinct else {video: str(video) for video in names}


def load_youtube_vis(
    name: str,
    json_file: Path,
    image_root: Path,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    unlisted_frames: UnlistedFrames = "gaps",
) -> LoadedDataset:
    """Read a YouTube-VIS file; see `register_youtube_vis`. Images are not opened."""
    file = AnnotationFile(json_file)
    categories = Categories(file, classes)
    records = file.by_id("videos")
    names = {v: _file_names(record, file.place("videos", v)) for v, record in records.items()}
    sizes = {v: frame_size(record, {}, file.place("videos", v)) for v, record in records.items()}
    of_video: dict[int, _Frames] = {v: [None] * len(files) for v, files in names.items()}
    check = BoxCheck(name)
    labelled = file.has("annotations")
    for identity, track in (file.by_id("annotations") if labelled else {}).items():
        place = file.place("annotations", identity)
        video = reference(track, "video_id", records, "videos", place)
        _add_track(of_video[video], identity, track, sizes[video], categories, check, place)

    dicts: DatasetDicts = []
    videos: dict[str, Sequence[str]] = {}
    image_id = 0
    for video, video_id in _video_ids(names).items():
        listed = names[video]
        whole = complete_video(image_root, listed, unlisted_frames, file.place("videos", video))
        videos[video_id] = [f"{image_root}/{frame}" for frame in whole]
        index = {frame: position for position, frame in enumerate(whole)}
        numbers = numbers_in(whole) or range(len(whole))
        for frame, instances in zip(listed, of_video[video], strict=True):
            image_id += 1
            if annotated_only and instances is None:
                continue
            dicts.append(
                {
                    "file_name": videos[video_id][index[frame]],
                    "height": sizes[video][1],
                    "width": sizes[video][0],
                    "image_id": image_id,
                    "video_id": video_id,
                    "frame_index": index[frame],
                    "frame_number": numbers[index[frame]],
                    "video_length": len(whole),
                }
            )
            if labelled:
                dicts[-1]["annotations"] = instances or []
    if not dicts:
        raise ValueError(f"the dataset {name!r} is empty: {json_file} has no annotated frame")
    check.warn()
    return LoadedDataset(dicts, VideoIndex(videos), categories.metadata())


def register_youtube_vis(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    unlisted_frames: UnlistedFrames = "gaps",
) -> None:
    """Register a YouTube-VIS file; nothing is read before the dataset is used.

    The video id is the folder of its frames, `track_id` the id of the annotation, `image_id`
    counts the frames of the file from 1. Masks are kept as `segmentation`: polygons as they are,
    RLE compressed, which needs INPUT.MASK_FORMAT "bitmask". Where a track has a mask and no box,
    the box is the one around the mask.

    Args:
        name: the dataset's name in configs.
        json_file: the annotation file.
        image_root: folder that the `file_names` are below, `JPEGImages` as a rule.
        classes: see `register_coco_vid`.
        annotated_only: list only frames in which some track has a box or a mask; the others stay
            reference frames.
        unlisted_frames: see `register_coco_vid`; with the folder of all frames as root, "gaps"
            makes those between the listed ones reference frames.

    Raises:
        ValueError: the name is taken, a class is given twice, or `unlisted_frames` is unknown.
    """
    check_unlisted(unlisted_frames)
    register_from_file(
        name,
        load_youtube_vis,
        json_file,
        image_root,
        classes,
        annotated_only=annotated_only,
        unlisted_frames=unlisted_frames,
    )
