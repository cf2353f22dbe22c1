"""KITTI tracking: `image_02/0000/000000.png` and `label_02/0000.txt`, frames counted from 0."""

from __future__ import annotations

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
from iff_detectron2.data.datasets.text_file import lines_of, to_integer, to_number

KITTI_CLASSES = (*("Car", "Van", "Truck", "Pedestrian", "Person", "Cyclist", "Tram", "Misc"),)
_WHAT = "KITTI tracking has a text file of labels per sequence"


def read_kitti_boxes(path: Path, check: BoxCheck) -> Iterator[LabelledBox]:
    """Read `frame id type truncated occluded alpha x1 y1 x2 y2 h w l x y z ry` lines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line or an unknown type.
    """
    for place, line in lines_of(path, _WHAT):
        columns = line.split()
        if len(columns) != 17:
            raise ValueError(
                f"{place}: expected 17 columns (KITTI tracking), got {len(columns)}: {line[:80]!r}"
            )
        frame = to_integer(columns[0], "the frame", place, 0)
        track = to_integer(columns[1], "the track id", place)
        kind = {"Person_sitting": "Person"}.get(columns[2], columns[2])
        if kind == "DontCare":
            check.leave_out("boxes of the type DontCare", place)
            continue
        if kind not in KITTI_CLASSES:
            raise ValueError(
                f"{place}: unknown type {kind!r}; KITTI has {', '.join(KITTI_CLASSES)}, DontCare"
            )
        x1, y1, x2, y2 = (to_number(text, "a corner", place) for text in columns[6:10])
        yield LabelledBox(frame, (x1, y1, x2, y2), kind, track if track >= 0 else None, place)


def _read(images: Path, labels: Path, check: BoxCheck) -> Any:
    paths = sorted(labels.glob("*.txt")) if labels.is_dir() else [labels]
    if not paths:
        raise FileNotFoundError(f"{labels} has no .txt file; {_WHAT}")
    videos = []
    for path in paths:
        boxes = list(read_kitti_boxes(path, check))
        source = frames_at(images / path.stem, str(path))
        size = frame_size(source.files[0])
        videos.append(LabelledVideo(path.stem, *source, *size, boxes, source.numbers, str(path)))
    return videos, KITTI_CLASSES


def register_kitti_tracking(
    name: str, images: str | Path, labels: str | Path, **options: Any
) -> None:
    """Register sequences of KITTI tracking; nothing is read before the dataset is used.

    Args:
        name: the dataset's name in configs.
        images: folder with a folder of frames per sequence, as `training/image_02`.
        labels: folder of the label files, as `training/label_02`, or one of them.
        **options: those of `register_videos`; frames count from 0.
    """
    place = Path(labels).expanduser()
    read = partial(_read, Path(images).expanduser(), place)
    register_videos(name, read, place, known=KITTI_CLASSES, **options)
