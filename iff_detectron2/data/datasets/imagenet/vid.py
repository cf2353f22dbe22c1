"""ImageNet VID, the DET stills that go with it, and every set in the same layout.

Layout under the root: `Data/{VID,DET}/<path>.JPEG`, `Annotations/{VID,DET}/<path>.xml`,
`ImageSets/<image set>.txt`; a frame of a video is `<video>/<six digits from 0>`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import compress, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from iff_detectron2.data.bad_labels import leave_out, may_leave_out
from iff_detectron2.data.catalog import DatasetDicts, register_video_dataset
from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.video_index import NumberedFrames, VideoIndex

from .annotation_reader import cache_path, read_annotations, reason_of
from .annotation_table import AnnotationTable
from .lists import (
    ListForm,
    guess_list_form,
    read_frames_list,
    read_stills_list,
    read_videos_list,
)

# Synset -> name, in the order of the protocol's class numbers 1 to 30.
IMAGENET_VID_CLASSES: dict[str, str] = {
    "n02691156": "airplane",
    "n02419796": "antelope",
    "n02131653": "bear",
    "n02834778": "bicycle",
    "n01503061": "bird",
    "n02924116": "bus",
    "n02958343": "car",
    "n02402425": "cattle",
    "n02084071": "dog",
    "n02121808": "domestic_cat",
    "n02503517": "elephant",
    "n02118333": "fox",
    "n02510455": "giant_panda",
    "n02342885": "hamster",
    "n02374451": "horse",
    "n02129165": "lion",
    "n01674464": "lizard",
    "n02484322": "monkey",
    "n03790512": "motorcycle",
    "n02324045": "rabbit",
    "n02509815": "red_panda",
    "n02411705": "sheep",
    "n01726692": "snake",
    "n02355227": "squirrel",
    "n02129604": "tiger",
    "n04468005": "train",
    "n01662784": "turtle",
    "n04530566": "watercraft",
    "n02062744": "whale",
    "n02391049": "zebra",
}

_MANY = 100_000  # frames of a video

_LIST_FORMS = ("frames", "videos", "stills")


class _Listing(NamedTuple):
    """What a list says, entry by entry, and the frames of its videos."""

    images: list[str]
    xmls: list[str]
    fields: list[dict[str, Any]]
    frame_index: VideoIndex


def _read_list(root: Path, path: Path, form: ListForm) -> _Listing:
    kind = "DET" if form == "stills" else "VID"
    data, xmls = f"{root}/Data/{kind}", f"{root}/Annotations/{kind}"
    if form == "stills":
        names = read_stills_list(path)
        return _Listing(
            [f"{data}/{name}.JPEG" for name in names],
            [f"{xmls}/{name}.xml" for name in names],
            [{"image_id": image_id} for image_id in range(1, len(names) + 1)],
            VideoIndex(),
        )

    # (video, length, frame, image id), the image id as the contract of each list form says.
    rows: Iterable[tuple[str, int, int, int]]
    if form == "frames":
        rows = (
            (entry.video, entry.length, entry.frame, image_id)
            for image_id, entry in enumerate(read_frames_list(path), start=1)
        )
    else:
        entries = read_videos_list(path)
        for entry in entries:
            last = f"{xmls}/{entry.video}/{entry.length - 1:06d}.xml"
            if entry.length > _MANY and not os.path.exists(last):  # a slip would fill the memory
                raise FileNotFoundError(
                    f"{path} says that {entry.video!r} has {entry.length} frames, but {last} does "
                    "not exist"
                )
        rows = (
            (entry.video, entry.length, frame, entry.first_id + frame)
            for entry in entries
            for frame in range(entry.length)
        )
    videos: dict[str, NumberedFrames] = {}
    images, annotation_files, fields = [], [], []
    for video, length, frame, image_id in rows:
        if video not in videos:
            videos[video] = NumberedFrames(f"{data}/{video}", range(length))
        stem = f"{video}/{frame:06d}"  # as NumberedFrames writes it, which takes thrice as long
        images.append(f"{data}/{stem}.JPEG")
        annotation_files.append(f"{xmls}/{stem}.xml")
        fields.append(
            {
                "image_id": image_id,
                "video_id": video,
                "frame_index": frame,
                "video_length": length,
            }
        )
    return _Listing(images, annotation_files, fields, VideoIndex(videos))


def _without_damaged(listing: _Listing, table: AnnotationTable) -> tuple[_Listing, AnnotationTable]:
    """Leave out images whose annotations could not be read; as reference frames they stay."""
    readable = table.sizes[:, 0] > 0
    if readable.all():
        return listing, table
    for number in np.flatnonzero(~readable):
        leave_out(listing.images[number], reason_of(listing.xmls[number]))
    kept = _Listing(
        list(compress(listing.images, readable)),
        list(compress(listing.xmls, readable)),
        list(compress(listing.fields, readable)),
        listing.frame_index,
    )
    return kept, replace(table, sizes=table.sizes[readable], counts=table.counts[readable])


def _categories(
    table: AnnotationTable,
    xmls: Sequence[str],
    category_ids: Mapping[str, int],
    skip_unknown: bool,
    dataset: str,
) -> np.ndarray:
    """Category of each object of the table, -1 for objects to leave out; [M]."""
    of_name = np.array([category_ids.get(name, -1) for name in table.names], dtype=np.int64)
    categories = of_name[table.name_ids]
    unknown = np.flatnonzero(categories < 0)
    if len(unknown) and not skip_unknown:
        image = int(np.searchsorted(table.starts(), unknown[0], side="right")) - 1
        raise ValueError(
            f"the annotation {xmls[image]} has an object named "
            f"{table.names[table.name_ids[unknown[0]]]!r}, which is none of the "
            f"{len(category_ids)} classes of {dataset!r}"
        )
    return categories


def _annotations(
    table: AnnotationTable, xmls: Sequence[str], categories: np.ndarray, check: BoxCheck
) -> Iterator[list[dict[str, Any]]]:
    """Detectron2's annotations of each image of the table."""
    sizes = np.repeat(table.sizes, table.counts, axis=0)
    # Nearly all boxes are in order; only the others need the closer look of `check`.
    top_left, bottom_right = table.boxes[:, :2], table.boxes[:, 2:]
    conditions = (
        *(top_left >= 0, top_left < sizes),
        *(bottom_right >= top_left, bottom_right <= sizes),
    )
    in_order = np.logical_and.reduce(np.concatenate(conditions, axis=1), axis=1)
    objects = zip(
        table.boxes.tolist(),
        in_order.tolist(),
        categories.tolist(),
        table.track_ids.tolist(),
        strict=True,
    )
    for xml, (width, height), count in zip(
        xmls, table.sizes.tolist(), table.counts.tolist(), strict=True
    ):
        annotations = []
        for box, usable, category, track_id in islice(objects, count):
            if category < 0:
                continue
            if not usable:
                mended = check(tuple(box), width, height, xml)
                if mended is None:
                    continue
                box = list(mended)
            annotation = {
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": category,
                "iscrowd": 0,
            }
            if track_id >= 0:
                annotation["track_id"] = track_id
            annotations.append(annotation)
        yield annotations


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which looks at all dicts again and again while they are made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load_imagenet_vid(
    name: str,
    root: Path,
    image_set: str,
    classes: Mapping[str, str],
    list_form: ListForm | None = None,
) -> tuple[DatasetDicts, VideoIndex]:
    """Read a list and its annotation files; images are not opened.

    Boxes stay as written, integer corners counted from 0, except for `BoxCheck`. Annotations of
    larger sets are cached, see `annotation_reader`.

    Args:
        name: of the dataset, for messages.
        root: folder with `Data`, `Annotations` and `ImageSets`.
        image_set: name of the list in `ImageSets`, without `.txt`.
        classes: names as in the XML files, and names to show, in the order of the class numbers.
        list_form: what a line of the list names; found out if left out.

    Returns:
        The dataset dicts in the order of the list, and the frames of its videos.

    Raises:
        FileNotFoundError: the list or an annotation file is missing.
        ValueError: a malformed list or annotation, or an object of a class not in `classes`; in
            stills such objects are skipped, as the protocol says.
    """
    path = root / "ImageSets" / f"{image_set}.txt"
    form = list_form or guess_list_form(path)
    with _collector_paused():
        listing = _read_list(root, path, form)
        table = read_annotations(
            *(listing.xmls, f"reading {name}", cache_path(root, image_set)), damaged=may_leave_out()
        )
        listing, table = _without_damaged(listing, table)
        category_ids = {xml_name: number for number, xml_name in enumerate(classes)}
        categories = _categories(table, listing.xmls, category_ids, form == "stills", name)
        check = BoxCheck(name)
        dicts = [
            {
                "file_name": image,
                "height": height,
                "width": width,
                **fields,
                "annotations": annotations,
            }
            for image, (width, height), fields, annotations in zip(
                listing.images,
                table.sizes.tolist(),
                listing.fields,
                _annotations(table, listing.xmls, categories, check),
                strict=True,
            )
        ]
    check.warn()
    return dicts, listing.frame_index


def register_imagenet_vid(
    name: str,
    root: str | Path | Callable[[], Path],
    image_set: str,
    *,
    classes: Mapping[str, str] | None = None,
    list_form: ListForm | None = None,
) -> None:
    """Register a dataset in the layout of ImageNet VID; nothing is read before it is used.

    Args:
        name: the dataset's name in configs.
        root: folder that holds `Data`, `Annotations` and `ImageSets`, or a function that finds
            it when the dataset is first read.
        image_set: name of a list in `ImageSets`, without `.txt`.
        classes: `<name>` in the annotation files -> class name, in the order of `category_id`;
            the 30 synsets of ImageNet VID if left out.
        list_form: "frames" (`<video> 1 <frame> <length>`), "videos" (`<video> <first id> 0
            <length>`) or "stills" (`<path> 1`); told from the list if left out.

    Raises:
        ValueError: the name is taken, the list form is unknown, or the image set is not a name.
    """
    if list_form is not None and list_form not in _LIST_FORMS:
        raise ValueError(f"the list form must be one of {_LIST_FORMS}, got {list_form!r}")
    if not image_set or Path(image_set).name != image_set:
        raise ValueError(
            f"the image set must be the name of a list in ImageSets, got {image_set!r}"
        )
    classes = IMAGENET_VID_CLASSES if classes is None else dict(classes)

    def folder() -> Path:
        return root() if callable(root) else Path(root).expanduser()

    def load() -> tuple[DatasetDicts, VideoIndex]:
        return load_imagenet_vid(name, folder(), image_set, classes, list_form)

    def annotation_files() -> list[str]:
        path = folder() / "ImageSets" / f"{image_set}.txt"
        return _read_list(folder(), path, list_form or guess_list_form(path)).xmls

    register_video_dataset(name, load, list(classes.values()))
    # For `iff-detectron2 doctor`: which figures hold, and which files to look at if reading fails.
    MetadataCatalog.get(name).set(image_set=image_set, annotation_files=annotation_files)
