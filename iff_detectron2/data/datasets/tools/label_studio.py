"""Label Studio's JSON export of videos: key frames of boxes in percent, per track."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.data.datasets.boxes import BoxCheck, around_rotated
from iff_detectron2.data.datasets.frame_source import find_frames, frame_size
from iff_detectron2.data.datasets.json_file import (
    Record,
    integer,
    is_number,
    read_json,
    shorten,
    text,
)
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)

_KEYS = ("x", "y", "width", "height", "rotation")
_HASH_DIGITS = 8  # `1a2b3c4d-clip.mp4`: the name that Label Studio gives an uploaded file


def _records(value: Any, what: str, place: str) -> list[Record]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{place}: {what} must be a list of objects, got {shorten(value)}")
    return value


def _percent(key_frame: Record, place: str) -> tuple[float, ...]:
    """x, y, width, height in percent, and rotation in degrees."""
    values = [key_frame.get(key, 0 if key == "rotation" else None) for key in _KEYS]
    if not all(map(is_number, values)):
        raise ValueError(f"{place}: {', '.join(_KEYS)} must be numbers, got {shorten(values)}")
    return tuple(map(float, values))  # type: ignore[arg-type]


def _key_frames(sequence: Any, place: str) -> list[tuple[int, tuple[float, ...], bool]]:
    """Frame from 1, box in percent, and whether the object is to be seen from there on."""
    found: list[tuple[int, tuple[float, ...], bool]] = []
    for record in _records(sequence, "'sequence'", place):
        frame = integer(record, "frame", place, 1)
        if found and frame <= found[-1][0]:
            raise ValueError(f"{place}: the key frame {frame} comes after {found[-1][0]}")
        found.append((frame, _percent(record, place), record.get("enabled", True) is not False))
    return found


def boxes_between(
    key_frames: Sequence[tuple[int, tuple[float, ...], bool]], num_frames: int
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Fill in the frames between key frames, on straight lines as Label Studio draws them.

    A key frame that is not enabled is the last one with a box until the next key frame; the box of
    an enabled last key frame stays to the end.

    Yields:
        Frame from 1 and its values.
    """
    if not key_frames:
        return
    last = (num_frames + 1, key_frames[-1][1], False)
    for (frame, values, enabled), (next_frame, next_values, _) in pairwise([*key_frames, last]):
        yield frame, values
        for between in range(frame + 1, min(next_frame, num_frames + 1) if enabled else frame):
            share = (between - frame) / (next_frame - frame)
            yield (
                between,
                tuple(a + share * (b - a) for a, b in zip(values, next_values, strict=True)),
            )


def _task_boxes(
    task: Record, num_frames: int, size: tuple[int, int], check: BoxCheck, place: str
) -> Iterator[LabelledBox]:
    width, height = size
    done = _records(task.get("annotations"), "'annotations'", place)
    results = [
        result
        for annotation in done
        if not annotation.get("was_cancelled")
        for result in _records(annotation.get("result"), "'result'", place)
    ]
    for result in results:
        here = f"{place}, result {shorten(result.get('id'))}"
        value = result.get("value")
        if result.get("type") != "videorectangle" or not isinstance(value, Mapping):
            check.leave_out(f"results of the type {shorten(result.get('type'))}", here)
            continue
        labels = value.get("labels")
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise ValueError(f"{here}: 'labels' must name one class, got {shorten(labels)}")
        track = text(result, "id", here)
        for frame, numbers in boxes_between(_key_frames(value.get("sequence"), here), num_frames):
            x, y, w, h, degrees = numbers
            left, top = x * width / 100, y * height / 100
            w, h = w * width / 100, h * height / 100
            box = (left, top, left + w, top + h)
            if degrees:
                box = _around_turned(left, top, w, h, degrees)
            yield LabelledBox(frame, box, labels[0], track, f"{here}, frame {frame}")


def _around_turned(
    left: float, top: float, width: float, height: float, degrees: float
) -> tuple[float, float, float, float]:
    """Label Studio turns a box clockwise about its upper left corner."""
    turn = np.exp(1j * np.radians(degrees)) * complex(width / 2, height / 2)
    return around_rotated(left + turn.real, top + turn.imag, width, height, degrees)


def _read_task(
    task: Record, number: int, videos: Path, path: Path, check: BoxCheck
) -> LabelledVideo:
    place = f"{path}, task {shorten(task.get('id', number))}"
    data = task.get("data")
    urls = list(data.values()) if isinstance(data, dict) else []
    url = next((u for u in urls if isinstance(u, str) and u.strip()), None)
    if url is None:
        raise ValueError(f"{place}: 'data' must name the video, got {shorten(data)}")
    name = url.replace("\\", "/").rpartition("/")[2].partition("?")[0]
    plain = _without_hash(name)
    source = find_frames(videos, name if (videos / name).exists() else plain, place)
    size = frame_size(source.files[0])
    numbers = range(1, len(source.files) + 1)
    boxes = list(_task_boxes(task, len(numbers), size, check, place))
    return LabelledVideo(Path(plain).stem, source.files, numbers, *size, boxes, numbers, place)


def _without_hash(name: str) -> str:
    start, dash, rest = name.partition("-")
    hashed = len(start) == _HASH_DIGITS and set(start) <= set("0123456789abcdef")
    return rest if dash and rest and hashed else name


def _read(
    videos: Path, path: Path, classes: Sequence[str], check: BoxCheck
) -> tuple[list[LabelledVideo], Sequence[str]]:
    tasks = _records(read_json(path), "Label Studio's export (JSON, not JSON-MIN)", str(path))
    found = [_read_task(task, n, videos, path, check) for n, task in enumerate(tasks)]
    labels = {box.label for video in found for box in video.boxes if box.label is not None}
    return found, list(dict.fromkeys([*classes, *sorted(labels)]))


def register_label_studio(
    name: str, videos: str | Path, json_file: str | Path, **options: Any
) -> None:
    """Register a JSON export of Label Studio; nothing is read before the dataset is used.

    All frames of a video count as looked at: boxes between key frames lie on straight lines, as
    the tool shows them. Frames count from 1. Classes are the labels that occur, sorted.

    Args:
        name: the dataset's name in configs.
        videos: the video file, or a folder that has the video of each task under its own name.
        json_file: the export.
        **options: those of `register_videos`; `annotated_only` is False if left out, and `classes`
            may name one that does not occur.
    """
    path = Path(json_file).expanduser()
    read = partial(_read, Path(videos).expanduser(), path, options.get("classes") or ())
    register_videos(name, read, path, **{"annotated_only": False, **options})
