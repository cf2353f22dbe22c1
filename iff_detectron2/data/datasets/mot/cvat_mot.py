"""CVAT's export "MOT 1.1": `gt/gt.txt`, `gt/labels.txt`, and `img1` if it was saved with images."""

from __future__ import annotations

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
from iff_detectron2.data.datasets.text_file import read_text

from .sequence import find_sequences, read_rows

_WHAT = "a MOT export of CVAT is a folder with gt/gt.txt and gt/labels.txt"


def _read_labels(path: Path) -> list[str]:
    """Class names, one per line; class 1 of `gt.txt` is the first."""
    names = [line.strip() for line in read_text(path, _WHAT).splitlines() if line.strip()]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"{path} must name each class once, one per line, got {names[:20]}")
    return names


def _read_export(folder: Path, frames: Path | None) -> tuple[LabelledVideo, list[str]]:
    names = _read_labels(folder / "gt/labels.txt")
    truth = folder / "gt/gt.txt"
    source = frames_at(frames or folder / "img1", str(truth))
    # CVAT counts lines from 1 whatever its images are called (frame_000000 is line 1), so its
    # number is a position; `frame_000000` itself is told to nobody.
    numbers = range(1, len(source.files) + 1)
    boxes = []
    for row in read_rows(truth, _WHAT, (8, 9, 10), "8 to 10 (CVAT's MOT)"):
        frame, _, class_id = row.integers(0, 1, 7)
        if not 1 <= class_id <= len(names):
            raise ValueError(
                f"{row.place}: class {class_id} has no line in labels.txt, which has {len(names)}"
            )
        crowd = row.values[6] == 0
        label = names[class_id - 1]
        boxes.append(LabelledBox(frame, row.box, label, row.track_id, row.place, crowd))
    width, height = frame_size(source.files[0])
    video = LabelledVideo(
        folder.absolute().name, source.files, numbers, width, height, boxes, numbers, str(truth)
    )
    return video, names


def _read(path: Path, frames: Path | None, check: BoxCheck) -> Any:
    folders = find_sequences(path, "gt/gt.txt")
    if frames is not None and len(folders) > 1:
        raise ValueError(f"{path} has {len(folders)} exports, {frames} can be the video of one")
    found = [_read_export(folder, frames) for folder in folders]
    for (_, names), folder in zip(found, folders, strict=True):
        if names != found[0][1]:
            raise ValueError(
                f"{folder}/gt/labels.txt has other classes than {folders[0]}/gt/labels.txt"
            )
    return [video for video, _ in found], found[0][1]


def register_cvat_mot(
    name: str, path: str | Path, frames_of: str | Path | None = None, **options: Any
) -> None:
    """Register exports "MOT 1.1" of CVAT; nothing is read before the dataset is used.

    Args:
        name: the dataset's name in configs.
        path: an unpacked export, or a folder of them.
        frames_of: the video file or the folder of its frames, for an export without images.
        **options: those of `register_videos`; frames count from 1 as in `gt.txt`.
    """
    frames = None if frames_of is None else Path(frames_of).expanduser()
    folder = Path(path).expanduser()
    register_videos(name, partial(_read, folder, frames), folder, **options)
