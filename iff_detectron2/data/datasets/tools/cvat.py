"""CVAT's export "CVAT for video 1.1": an XML file with a `<track>` per object."""

from __future__ import annotations

import logging
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from iff_detectron2.data.datasets.boxes import Box, BoxCheck, around_rotated
from iff_detectron2.data.datasets.frame_source import VideoFrames, find_frames, frame_size
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)
from iff_detectron2.data.datasets.text_file import MAX_FRAMES, to_integer
from iff_detectron2.data.datasets.xml_tree import attribute, number, read_xml_tree

_WHAT = 'CVAT\'s export "CVAT for video 1.1" is an XML file with <annotations>'
_OWN_NAME = re.compile(r"frame_[0-9]{6,}\.\w+")

_logger = logging.getLogger(__name__)


def _task(root: ElementTree.Element, path: Path) -> ElementTree.Element:
    """Return the description of the task or job."""
    task = root.find("meta/task")
    task = root.find("meta/job") if task is None else task
    if task is None:
        what = "a project, whose tasks count their frames together; export each task"
        if root.find("meta/project") is None:
            what = "no task that it tells of"
        raise ValueError(f"{path} has {what}")
    if root.find("image") is not None:
        raise ValueError(
            f'{path} is an export "CVAT for images", which has no tracks; choose "CVAT for video '
            "1.1\" in CVAT's menu"
        )
    return task


def _task_frames(task: ElementTree.Element, path: Path) -> range | None:
    """Numbers of the frames that the task consists of; None where it does not say."""
    texts = [task.findtext(key) for key in ("start_frame", "stop_frame")]
    if any(text is None for text in texts):
        return None
    start, stop = (to_integer(text or "", "a frame of the task", str(path), 0) for text in texts)
    step = re.search(r"step\s*=\s*([1-9][0-9]{0,6})\b", task.findtext("frame_filter") or "")
    if stop > MAX_FRAMES:
        raise ValueError(f"{path}: <stop_frame> must be at most {MAX_FRAMES}, got {stop}")
    return range(start, stop + 1, int(step[1]) if step else 1)


def _box(node: ElementTree.Element, place: str) -> Box:
    x1, y1, x2, y2 = (number(node, key, place) for key in ("xtl", "ytl", "xbr", "ybr"))
    if node.get("rotation") is None:
        return x1, y1, x2, y2
    turned = number(node, "rotation", place)
    return around_rotated((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, turned)


def read_cvat_boxes(
    root: ElementTree.Element, path: Path, check: BoxCheck
) -> Iterator[LabelledBox]:
    """Read the boxes of all tracks; where a track is `outside` of the picture it has none.

    Args:
        root: the `<annotations>`.
        path: its file, for errors.
        check: counts what is left out.

    Raises:
        ValueError: an element lacks what it needs.
    """
    for track in root.iterfind("track"):
        here = f"{path}, track {track.get('id')!r}"
        identity = to_integer(attribute(track, "id", here), "'id' of <track>", here, 0)
        label = attribute(track, "label", here)
        for shape in track:
            place = f"{here}, frame {shape.get('frame')!r}"
            frame = to_integer(
                attribute(shape, "frame", place), f"'frame' of <{shape.tag}>", place, 0
            )
            if shape.get("outside") == "1":
                continue
            if shape.tag != "box":
                check.leave_out(f"shapes that are no boxes (<{shape.tag}>)", place)
                continue
            yield LabelledBox(frame, _box(shape, place), label, identity, place)


def _in_cvats_numbers(source: VideoFrames) -> VideoFrames:
    """Give frames CVAT's numbers: their positions, but for the images that it saved itself."""
    names = [Path(file).name for file in source.files]
    if all(map(_OWN_NAME.fullmatch, names)):
        return source
    return VideoFrames(source.files, range(len(source.files)))


def _read_file(path: Path, frames: Path, check: BoxCheck) -> tuple[LabelledVideo, list[str]]:
    root = read_xml_tree(path, "annotations", _WHAT)
    task = _task(root, path)
    labels = [name.strip() for node in root.iterfind("meta//label/name") if (name := node.text)]
    name = task.findtext("source") or root.findtext("meta/source") or path.stem
    files, numbers = _in_cvats_numbers(find_frames(frames, name.strip(), str(path)))
    looked_at = _task_frames(task, path)
    if looked_at and looked_at[-1] > numbers[-1]:
        _logger.warning(
            "%s: the task has frames up to %d, the video up to %d; is it the same video?",
            path,
            looked_at[-1],
            numbers[-1],
        )
    boxes = list(read_cvat_boxes(root, path, check))
    size = frame_size(files[0])
    video = LabelledVideo(
        Path(name.strip()).stem, files, numbers, *size, boxes, looked_at or (), str(path)
    )
    return video, list(dict.fromkeys(labels))


def _read(frames: Path, labels: Path, check: BoxCheck) -> tuple[list[LabelledVideo], Sequence[str]]:
    paths = sorted(labels.glob("*.xml")) if labels.is_dir() else [labels]
    if not paths:
        raise FileNotFoundError(f"{labels} has no .xml file; {_WHAT}")
    found = [_read_file(path, frames, check) for path in paths]
    return [video for video, _ in found], list(
        dict.fromkeys(label for _, labels in found for label in labels)
    )


def register_cvat_video(
    name: str, videos: str | Path, annotations: str | Path, **options: Any
) -> None:
    """Register exports "CVAT for video 1.1"; nothing is read before the dataset is used.

    All frames of the task count as looked at. Frames are numbered as CVAT does, from 0.

    Args:
        name: the dataset's name in configs.
        videos: the video file or the folder of its frames, or a folder of videos that has the
            `<source>` of each task.
        annotations: an XML file, or a folder of them, one per video.
        **options: those of `register_videos`; `annotated_only` is False if left out.
    """
    place = Path(annotations).expanduser()
    read = partial(_read, Path(videos).expanduser(), place)
    register_videos(name, read, place, **{"annotated_only": False, **options})
