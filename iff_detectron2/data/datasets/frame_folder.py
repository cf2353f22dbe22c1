"""Frames of a video as files whose names differ in one number; also those that no label names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from iff_detectron2.video.images import is_frame_name

# Which frames that an annotation file does not list are reference frames all the same: those
# between the listed ones, all of the video that are on the disk, or none.
UnlistedFrames = Literal["gaps", "all", "none"]

# What tools put into names so that no two are equal: Roboflow behind the name, Label Studio before.
_HASH_BEHIND = re.compile(r"\.rf\.[0-9A-Za-z]{16,64}$")
_HASH_BEFORE = re.compile(r"^[0-9a-f]{8}-(?=.)")
_OLD_SUFFIX = re.compile(r"_(?:jpe?g|png|bmp|webp)$", re.IGNORECASE)
_MAX_DIGITS = 19  # nanoseconds since 1970 are numbers, too


def check_unlisted(unlisted: str) -> None:
    """Raise ValueError unless the value is one of `UnlistedFrames`."""
    if unlisted not in get_args(UnlistedFrames):
        raise ValueError(
            f"unlisted_frames must be one of {get_args(UnlistedFrames)}, got {unlisted!r}"
        )


def image_names(folder: Path) -> list[str]:
    """Return the names of the images in a folder, unordered, without hidden files.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"the folder {folder}, in which the annotations have frames, does not exist"
        ) from None
    return list(filter(is_frame_name, names))


class FramePattern(NamedTuple):
    """What the names of a video's frames have in common.

    Attributes:
        folder: below the root, "" for the root itself.
        prefix: part of the file name before the number.
        suffix: part behind it.
        extension: with its dot.
    """

    folder: str
    prefix: str
    suffix: str
    extension: str

    @property
    def video_id(self) -> str:
        """A name for the video: `clips/a` for `clips/a_0001.jpg` and for `clips/a/0001.jpg`."""
        name = self.prefix.rstrip("_-. ") + _OLD_SUFFIX.sub("", self.suffix)
        return "/".join(part for part in (self.folder, name) if part)


class FramePosition(NamedTuple):
    """Where a listed image is in its video.

    Attributes:
        video_id: key of the frame index.
        frame_index: counted from 0.
        frame_number: the source's own number.
    """

    video_id: str
    frame_index: int
    frame_number: int


class FrameNames:
    """Splits names of frames into video and number: the number is the last one that varies.

    `cam2_0001_1080p.jpg` and `cam2_0002_1080p.jpg` are frames 1 and 2 of one video. What Roboflow
    (`clip_mp4-0001_jpg.rf.<hash>.jpg`) and Label Studio (`<hash>-clip_0001.jpg`) add is left out.

    Args:
        names: file names below a root, with forward slashes; what varies is found among them.
        number: regular expression with one group, the number, that is searched in the file name
            instead.

    Raises:
        ValueError: `number` is no such expression.
    """

    def __init__(self, names: Iterable[str], number: str | None = None) -> None:
        self._number = None if number is None else _compile_number(number)
        listed = list(names)
        hashed = sum(
            bool(_HASH_BEFORE.match(stem)) and not stem[:8].isdecimal()
            for stem in (_stem(name)[1] for name in listed)
        )
        # A date of eight digits looks like a hash; hashes have letters, as a rule.
        self._hash_before = hashed * 2 > len(listed)
        numbers: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for name in listed:
            template, values = self._template(name)
            numbers[template].append(values)
        self._column = {key: _last_varying(values) for key, values in numbers.items()}

    def split(self, name: str) -> tuple[FramePattern, int] | None:
        """Pattern and number of a frame's file name; None if the name has no number."""
        folder, stem, extension = self._plain(name)
        if self._number is not None:
            match = self._number.search(stem)
            span = match.span(1) if match else None
        else:
            found = list(re.finditer("[0-9]+", stem))
            span = found[self._column.get(self._template(name)[0], -1)].span() if found else None
        if span is None or not 0 < span[1] - span[0] <= _MAX_DIGITS:
            return None
        digits = stem[slice(*span)]
        if not digits.isdecimal() or int(digits) >= 2**63:
            return None
        return FramePattern(folder, stem[: span[0]], stem[span[1] :], extension), int(digits)

    def on_disk(self, root: Path, pattern: FramePattern) -> dict[int, str]:
        """Files below the root that fit, by number, ascending.

        Raises:
            FileNotFoundError: the folder does not exist.
            ValueError: two files have the same number.
        """
        folder = root / pattern.folder
        start = f"{pattern.folder}/" if pattern.folder else ""
        found: dict[int, str] = {}
        for name in image_names(folder):
            parts = self.split(start + name)
            if parts is None or parts[0] != pattern:
                continue
            number = parts[1]
            if number in found:
                raise ValueError(
                    f"{folder} has two frames of number {number}, "
                    f"{found[number].removeprefix(start)!r} and {name!r}"
                )
            found[number] = start + name
        return {number: found[number] for number in sorted(found)}

    def _plain(self, name: str) -> tuple[str, str, str]:
        """Folder, name without hashes, and extension."""
        folder, stem, extension = _stem(name)
        stem = _HASH_BEHIND.sub("", stem)
        return folder, _HASH_BEFORE.sub("", stem) if self._hash_before else stem, extension

    def _template(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what is not a number in a name, and the numbers."""
        folder, stem, extension = self._plain(name)
        parts = re.split("([0-9]+)", stem)
        return (folder, extension, *parts[::2]), tuple(parts[1::2])


def _stem(name: str) -> tuple[str, str, str]:
    folder, _, file = name.rpartition("/")
    stem, dot, extension = file.rpartition(".")
    return folder, stem, f"{dot}{extension}"


def _compile_number(number: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(number)
    except re.error as error:
        raise ValueError(f"{number!r} is not a regular expression: {error}") from None
    if pattern.groups != 1:
        raise ValueError(
            f"{number!r} must have one group, the frame's number, such as 'frame([0-9]+)'"
        )
    return pattern


def _last_varying(values: Sequence[tuple[str, ...]]) -> int:
    """Return the column, counted from the end, of the last number that is not always the same."""
    for column in range(1, len(values[0]) + 1):
        if any(row[-column] != values[0][-column] for row in values):
            return -column
    return -1


def numbers_in(names: Sequence[str]) -> list[int] | None:
    """Numbers of the frames of a video, None where their names differ in more than a number."""
    of_names = FrameNames(names)
    parts = [of_names.split(name) for name in names]
    patterns = {part[0] if part else None for part in parts}
    if len(patterns) > 1 or None in patterns:
        return None
    return [part[1] for part in parts if part]


def complete_video(
    root: Path, listed: Sequence[str], unlisted: UnlistedFrames, what: str
) -> list[str]:
    """All frames of a video, from those that an annotation file lists, in order.

    Args:
        root: folder that the names are below.
        listed: names of the listed frames, in their order.
        unlisted: see `UnlistedFrames`.
        what: the video, for messages.

    Returns:
        Names below the root; all of `listed` are among them, in the same order.

    Raises:
        FileNotFoundError: a listed frame is not on the disk where the disk was looked at.
        ValueError: the numbers of the files do not ascend, or "all" is asked for and the names
            differ in more than a number.
    """
    if unlisted == "none":
        return list(listed)
    of_names = FrameNames(listed)
    parts = [of_names.split(name) for name in listed]
    patterns = {part[0] if part else None for part in parts}
    pattern = next(iter(patterns))
    if len(patterns) > 1 or pattern is None:
        if unlisted == "gaps":
            return list(listed)
        raise ValueError(
            f"{what}: the names of its frames differ in more than their last number (the first is "
            f"{listed[0]!r}), so that its other frames cannot be found; use unlisted_frames='gaps'"
        )
    numbers = [part[1] for part in parts if part]
    for before, number in pairwise(numbers):
        if number <= before:
            raise ValueError(
                f"{what}: its frames are listed in another order than their files are numbered "
                f"({number} after {before} in {listed[0]!r} and following)"
            )
    if unlisted == "gaps" and numbers[-1] - numbers[0] == len(numbers) - 1:
        return list(listed)
    found = of_names.on_disk(root, pattern)
    on_disk = set(found.values())
    missing = [name for name in listed if name not in on_disk]
    if missing:
        raise FileNotFoundError(f"{what}: its frame {root / missing[0]} does not exist")
    if unlisted == "all":
        return list(found.values())
    return [name for number, name in found.items() if numbers[0] <= number <= numbers[-1]]
