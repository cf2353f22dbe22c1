"""ImageNet VID, the DET stills that go with it, and every set in the same layout.

Layout under the root: `Data/{VID,DET}/<path>.JPEG`, `Annotations/{VID,DET}/<path>.xml`,
`ImageSets/<image set>.txt`; a frame of a video is `<video>/<six digits from 0>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.structures import BoxMode
from tqdm import tqdm

from ..catalog import DatasetDicts, register_video_dataset
from ..frame_index import FrameIndex, NumberedFrames
from .boxes import BoxCheck
from .ilsvrc_lists import (
    ListForm,
    guess_list_form,
    read_frames_list,
    read_stills_list,
    read_videos_list,
)
from .ilsvrc_xml import XMLAnnotation, read_xml

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

_LIST_FORMS = ("frames", "videos", "stills")
# Reading ahead hides the latency of a network disk; more threads only wait for each other.
_NUM_READERS = 4
_READ_AHEAD = 1024
_PROGRESS_FROM = 2000


class _Entry(NamedTuple):
    """One image to read: its files and what the list says about it."""

    image: str
    xml: Path
    fields: dict[str, Any]


def _read_xmls(entries: list[_Entry], desc: str) -> Iterator[XMLAnnotation]:
    """Annotation of every entry in order, in bounded memory."""
    paths = (entry.xml for entry in entries)
    with (
        ThreadPoolExecutor(_NUM_READERS) as pool,
        tqdm(total=len(entries), desc=desc, disable=len(entries) < _PROGRESS_FROM) as progress,
    ):
        while block := list(islice(paths, _READ_AHEAD)):
            yield from pool.map(read_xml, block)
            progress.update(len(block))


def _annotations(
    xml: XMLAnnotation,
    path: Path,
    category_ids: Mapping[str, int],
    skip_unknown: bool,
    check: BoxCheck,
) -> list[dict[str, Any]]:
    annotations = []
    for item in xml.objects:
        if item.name not in category_ids:
            if skip_unknown:
                continue
            raise ValueError(
                f"the annotation {path} has an object named {item.name!r}, which is none of the "
                f"{len(category_ids)} classes of {check.dataset!r}"
            )
        box = check(item.box, xml.width, xml.height, str(path))
        if box is None:
            continue
        annotation = {
            "bbox": list(box),
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": category_ids[item.name],
            "iscrowd": 0,
        }
        if item.track_id is not None:
            annotation["track_id"] = item.track_id
        annotations.append(annotation)
    return annotations


def _list_entries(root: Path, path: Path, form: ListForm) -> tuple[list[_Entry], FrameIndex]:
    kind = "DET" if form == "stills" else "VID"
    data, xmls = root / "Data" / kind, root / "Annotations" / kind
    if form == "stills":
        stills = [
            _Entry(f"{data}/{name}.JPEG", xmls / f"{name}.xml", {"image_id": image_id})
            for image_id, name in enumerate(read_stills_list(path), start=1)
        ]
        return stills, FrameIndex()

    # (video, length, frame, image id), the image id as the contract of each list form says.
    rows: Iterable[tuple[str, int, int, int]]
    if form == "frames":
        rows = (
            (entry.video, entry.length, entry.frame, image_id)
            for image_id, entry in enumerate(read_frames_list(path), start=1)
        )
    else:
        rows = (
            (entry.video, entry.length, frame, entry.first_id + frame)
            for entry in read_videos_list(path)
            for frame in range(entry.length)
        )
    videos: dict[str, NumberedFrames] = {}
    entries = []
    for video, length, frame, image_id in rows:
        if video not in videos:
            videos[video] = NumberedFrames(f"{data}/{video}", range(length))
        fields = {
            "image_id": image_id,
            "video_id": video,
            "frame_index": frame,
            "video_length": length,
        }
        entries.append(_Entry(videos[video][frame], xmls / video / f"{frame:06d}.xml", fields))
    return entries, FrameIndex(videos)


def load_imagenet_vid(
    name: str,
    root: Path,
    image_set: str,
    classes: Mapping[str, str],
    list_form: ListForm | None = None,
) -> tuple[DatasetDicts, FrameIndex]:
    """Read a list and its annotation files; images are not opened.

    Boxes stay as written, integer corners counted from 0, except for `BoxCheck`.

    Returns:
        The dataset dicts in the order of the list, and the frames of its videos.

    Raises:
        FileNotFoundError: the list or an annotation file is missing.
        ValueError: a malformed list or annotation, or an object of a class not in `classes`; in
            stills such objects are skipped, as the protocol says.
    """
    path = root / "ImageSets" / f"{image_set}.txt"
    form = list_form or guess_list_form(path)
    entries, frame_index = _list_entries(root, path, form)
    category_ids = {xml_name: number for number, xml_name in enumerate(classes)}
    check = BoxCheck(name)
    dicts = []
    for entry, xml in zip(entries, _read_xmls(entries, f"reading {name}"), strict=True):
        annotations = _annotations(xml, entry.xml, category_ids, form == "stills", check)
        dicts.append(
            {
                "file_name": entry.image,
                "height": xml.height,
                "width": xml.width,
                **entry.fields,
                "annotations": annotations,
            }
        )
    check.warn()
    return dicts, frame_index


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

    def load() -> tuple[DatasetDicts, FrameIndex]:
        folder = root() if callable(root) else Path(root).expanduser()
        return load_imagenet_vid(name, folder, image_set, classes, list_form)

    register_video_dataset(name, load, list(classes.values()))
