"""VisDrone-VID and VisDrone-MOT: `sequences/<name>/0000001.jpg` and `annotations/<name>.txt`."""

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

from .sequence import find_sequences, read_rows, read_seqinfo

# Categories 1 to 10; 0 is a region to be ignored, 11 is anything else.
VISDRONE_CLASSES = (
    *("pedestrian", "people", "bicycle", "car", "van"),
    *("truck", "tricycle", "awning-tricycle", "bus", "motor"),
)
_LEFT_OUT = {0: "regions to be ignored", 11: "boxes of the category 'others'"}
_WHAT = "VisDrone has a text file of annotations per sequence"


def read_visdrone_boxes(path: Path, check: BoxCheck) -> Iterator[LabelledBox]:
    """Read `frame,id,left,top,width,height,score,category,truncation,occlusion` lines.

    Score 0 says that a box does not count; it becomes `iscrowd` 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line or an unknown category.
    """
    for row in read_rows(path, _WHAT, (10,), "10 (VisDrone)"):
        frame, _, category = row.integers(0, 1, 7)
        if category in _LEFT_OUT:
            check.leave_out(_LEFT_OUT[category], row.place)
            continue
        if not 1 <= category <= len(VISDRONE_CLASSES):
            raise ValueError(f"{row.place}: unknown category {category}; VisDrone has 0 to 11")
        label, crowd = VISDRONE_CLASSES[category - 1], row.values[6] == 0
        yield LabelledBox(frame, row.box, label, row.track_id, row.place, crowd)


def _read(root: Path, check: BoxCheck) -> tuple[list[LabelledVideo], tuple[str, ...]]:
    videos = []
    if (root / "annotations").is_dir():
        for path in sorted((root / "annotations").glob("*.txt")):
            source = frames_at(root / "sequences" / path.stem, str(path))
            width, height = frame_size(source.files[0])
            boxes = list(read_visdrone_boxes(path, check))
            videos.append(
                LabelledVideo(path.stem, *source, width, height, boxes, source.numbers, str(path))
            )
        if not videos:
            raise FileNotFoundError(f"{root / 'annotations'} has no .txt file; {_WHAT}")
        return videos, VISDRONE_CLASSES
    for folder in find_sequences(root):  # as people lay it out for trackers of MOTChallenge
        info = read_seqinfo(folder)
        truth = folder / "gt/gt.txt"
        boxes = list(read_visdrone_boxes(truth, check))
        frames, size = info.frames, (info.width, info.height)
        videos.append(
            LabelledVideo(
                info.name, frames, frames.numbers, *size, boxes, frames.numbers, str(truth)
            )
        )
    return videos, VISDRONE_CLASSES


def register_visdrone(name: str, root: str | Path, **options: Any) -> None:
    """Register VisDrone-VID or VisDrone-MOT; nothing is read before the dataset is used.

    Regions to be ignored and the category "others" are left out and counted.

    Args:
        name: the dataset's name in configs.
        root: folder with `sequences` and `annotations`, or sequences in MOTChallenge's layout whose
            `gt.txt` has VisDrone's columns.
        **options: those of `register_videos`; frames count from 1.
    """
    folder = Path(root).expanduser()
    register_videos(name, partial(_read, folder), folder, known=VISDRONE_CLASSES, **options)
