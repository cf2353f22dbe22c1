"""UA-DETRAC: `MVI_20011.xml` per sequence and `MVI_20011/img00001.jpg`, frames counted from 1."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.frame_source import frame_size, frames_at
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)
from iff_detectron2.data.datasets.text_file import to_integer
from iff_detectron2.data.datasets.xml_tree import attribute, number, read_xml_tree

DETRAC_CLASSES = ("car", "bus", "van", "others")
_WHAT = "UA-DETRAC has an XML file with a <sequence> per sequence"


def read_detrac_boxes(
    root: ElementTree.Element, path: Path, check: BoxCheck
) -> Iterator[LabelledBox]:
    """Read the targets of a `<sequence>`.

    Args:
        root: the `<sequence>`.
        path: its file, for errors.
        check: counts what is left out.

    Raises:
        ValueError: an element lacks what it needs, or a vehicle is of an unknown type.
    """
    for region in root.iterfind("ignored_region/box"):
        check.leave_out("regions to be ignored", f"{path}: <{region.tag}>")
    for frame in root.iterfind("frame"):
        place = f"{path}, frame {frame.get('num')!r}"
        count = to_integer(attribute(frame, "num", place), "'num' of <frame>", place, 1)
        for target in frame.iterfind("target_list/target"):
            here = f"{place}, target {target.get('id')!r}"
            track = to_integer(attribute(target, "id", here), "'id' of <target>", here)
            box, about = target.find("box"), target.find("attribute")
            if box is None or about is None:
                raise ValueError(f"{here}: it lacks <box> or <attribute>")
            kind = attribute(about, "vehicle_type", here)
            if kind not in DETRAC_CLASSES:
                known = ", ".join(DETRAC_CLASSES)
                raise ValueError(f"{here}: unknown vehicle_type {kind!r}; UA-DETRAC has {known}")
            left, top, width, height = (
                number(box, key, here) for key in ("left", "top", "width", "height")
            )
            corners = (left, top, left + width, top + height)
            yield LabelledBox(count, corners, kind, track if track >= 0 else None, here)


def _read(images: Path, labels: Path, check: BoxCheck) -> Any:
    paths = sorted(labels.glob("*.xml")) if labels.is_dir() else [labels]
    if not paths:
        raise FileNotFoundError(f"{labels} has no .xml file; {_WHAT}")
    videos = []
    for path in paths:
        root = read_xml_tree(path, "sequence", _WHAT)
        boxes = list(read_detrac_boxes(root, path, check))
        # The second release of the annotations is called MVI_20011_v3.xml.
        video = root.get("name") or path.stem
        if Path(video).name != video:
            raise ValueError(f"{path}: the sequence's name {video!r} is no name of a folder")
        source = frames_at(images / video, str(path))
        size = frame_size(source.files[0])
        videos.append(LabelledVideo(video, *source, *size, boxes, source.numbers, str(path)))
    return videos, DETRAC_CLASSES


def register_ua_detrac(
    name: str, images: str | Path, annotations: str | Path, **options: Any
) -> None:
    """Register sequences of UA-DETRAC; nothing is read before the dataset is used.

    Regions to be ignored are left out and counted.

    Args:
        name: the dataset's name in configs.
        images: folder with a folder of frames per sequence.
        annotations: folder of the XML files, or one of them.
        **options: those of `register_videos`; frames count from 1.
    """
    place = Path(annotations).expanduser()
    read = partial(_read, Path(images).expanduser(), place)
    register_videos(name, read, place, known=DETRAC_CLASSES, **options)
