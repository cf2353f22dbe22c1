"""The image lists of ImageNet VID and DET: text in, entries out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iff_detectron2.data.datasets.relative_paths import check_relative
from iff_detectron2.data.datasets.text_file import MAX_FRAMES, lines_of

_DECIMAL = re.compile("[0-9]{1,9}")
_WHAT = (
    "set DETECTRON2_DATASETS to the folder that holds the datasets, make the lists of an ILSVRC "
    "tree with `iff-detectron2 index`, or write MovingShapes with `iff-detectron2 synth`"
)

ListForm = Literal["frames", "videos", "stills"]


@dataclass(frozen=True)
class FrameEntry:
    """One key frame of a video (training lists).

    Attributes:
        video: folder of the video below `Data/VID`.
        frame: frame, counted from 0.
        length: frames in the video.
    """

    video: str
    frame: int
    length: int


@dataclass(frozen=True)
class VideoEntry:
    """A whole video (validation lists).

    Attributes:
        video: folder of the video below `Data/VID`.
        first_id: global id of its first frame, counted from 1 over the whole list.
        length: frames in the video.
    """

    video: str
    first_id: int
    length: int


def _rows(path: Path, num_columns: int) -> Iterator[tuple[str, list[str]]]:
    """Columns of every line that is not blank, with the place for error messages."""
    empty = True
    for place, line in lines_of(path, _WHAT):
        columns = line.split()
        empty = False
        if len(columns) != num_columns:
            raise ValueError(
                f"{place}: expected {num_columns} columns, got {len(columns)}: {line[:200]!r}"
            )
        columns[0] = check_relative(columns[0], place)
        yield place, columns
    if empty:
        raise ValueError(f"the image list {path} is empty; a dataset needs at least one entry")


def _integer(text: str, what: str, place: str, minimum: int) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"{place}: {what} must be an integer, got {text[:40]!r}")
    value = int(text)
    if value < minimum:
        raise ValueError(f"{place}: {what} must be at least {minimum}, got {value}")
    return value


def _length(text: str, place: str) -> int:
    value = _integer(text, "the video length", place, 1)
    if value > MAX_FRAMES:
        raise ValueError(f"{place}: the video length must be at most {MAX_FRAMES}, got {value}")
    return value


def read_stills_list(path: Path) -> list[str]:
    """Read `<path without extension> 1` lines; an image of several classes comes once for each."""
    return [columns[0] for _, columns in _rows(path, 2)]


def read_frames_list(path: Path) -> list[FrameEntry]:
    """Read `<video> 1 <frame, from 0> <length>` lines.

    Raises:
        ValueError: a frame outside its video, a frame listed twice, or two lengths of one video.
    """
    entries: list[FrameEntry] = []
    seen: set[tuple[str, int]] = set()
    lengths: dict[str, int] = {}
    for place, (video, flag, frame_text, length_text) in _rows(path, 4):
        if flag != "1":
            raise ValueError(f"{place}: the second column of a frame list is 1, got {flag!r}")
        frame = _integer(frame_text, "the frame", place, 0)
        length = _length(length_text, place)
        if frame >= length:
            raise ValueError(
                f"{place}: frame {frame} is outside a video of {length} frames "
                "(frames count from 0)"
            )
        if lengths.setdefault(video, length) != length:
            raise ValueError(
                f"{place}: {video!r} has {length} frames here and {lengths[video]} further up"
            )
        if (video, frame) in seen:
            raise ValueError(f"{place}: frame {frame} of {video!r} is listed twice")
        seen.add((video, frame))
        entries.append(FrameEntry(video, frame, length))
    return entries


def read_videos_list(path: Path) -> list[VideoEntry]:
    """Read `<video> <first global frame id, from 1> 0 <length>` lines.

    Raises:
        ValueError: a video listed twice, or global ids that overlap.
    """
    entries: list[VideoEntry] = []
    seen: set[str] = set()
    next_id = 1
    for place, (video, id_text, flag, length_text) in _rows(path, 4):
        if flag != "0":
            raise ValueError(f"{place}: the third column of a video list is 0, got {flag!r}")
        if video in seen:
            raise ValueError(f"{place}: {video!r} is listed twice")
        first_id = _integer(id_text, "the first frame id", place, 1)
        length = _length(length_text, place)
        if first_id < next_id:
            raise ValueError(
                f"{place}: the frame ids from {first_id} overlap with those of the video before, "
                f"which end at {next_id - 1}"
            )
        next_id = first_id + length
        seen.add(video)
        entries.append(VideoEntry(video, first_id, length))
    return entries


def guess_list_form(path: Path) -> ListForm:
    """Tell the three list forms apart by their columns.

    Two columns are stills. Four columns are whole videos if every third column is 0 and the second
    counts frames up from line to line; the one line that fits both forms, `<video> 1 0 <length>`
    alone in its file, is read as a whole video.
    """
    first = next((line for _, line in lines_of(path, _WHAT)), "")
    if len(first.split()) == 2:
        return "stills"
    next_id = 1
    for _, (_, first_id, flag, length) in _rows(path, 4):
        if flag != "0" or not _DECIMAL.fullmatch(first_id) or int(first_id) < next_id:
            return "frames"
        next_id = int(first_id) + (int(length) if _DECIMAL.fullmatch(length) else 0)
    return "videos"
