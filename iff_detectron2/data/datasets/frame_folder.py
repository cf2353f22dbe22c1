"""Frames of a video as files whose names differ in one number; also those that no label names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

# Which frames that an annotation file does not list are neighbours all the same: those between the
# listed ones, all of the video that are on the disk, or none.
UnlistedFrames = Literal["gaps", "all", "none"]


def check_unlisted(unlisted: str) -> None:
    """Raise ValueError unless the value is one of `UnlistedFrames`."""
    if unlisted not in get_args(UnlistedFrames):
        raise ValueError(
            f"unlisted_frames must be one of {get_args(UnlistedFrames)}, got {unlisted!r}"
        )


@dataclass(frozen=True)
class FramePattern:
    """A file name but for its last number.

    Attributes:
        folder: below the root, "" for the root itself.
        prefix: part of the file name before the number.
        suffix: part behind it, with the extension.
    """

    folder: str
    prefix: str
    suffix: str

    @property
    def video_id(self) -> str:
        """A name for the video: `clips/a` for `clips/a_0001.jpg` and for `clips/a/0001.jpg`."""
        return "/".join(part for part in (self.folder, self.prefix.rstrip("_-. ")) if part)

    def on_disk(self, root: Path) -> dict[int, str]:
        """Files below the root that fit, by number, ascending.

        Raises:
            FileNotFoundError: the folder does not exist.
            ValueError: two files have the same number.
        """
        folder = root / self.folder
        fits = re.compile(rf"{re.escape(self.prefix)}([0-9]+){re.escape(self.suffix)}")
        found: dict[int, str] = {}
        try:
            names = [entry.name for entry in os.scandir(folder)]
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"the folder {folder}, in which the annotations have frames, does not exist"
            ) from None
        for name in names:
            if (match := fits.fullmatch(name)) is None:
                continue
            number = int(match[1])
            if number in found:
                raise ValueError(
                    f"{folder} has two frames of number {number}, {found[number]!r} and {name!r}"
                )
            found[number] = name
        start = f"{self.folder}/" if self.folder else ""
        return {number: start + found[number] for number in sorted(found)}


def split_number(name: str) -> tuple[FramePattern, int] | None:
    """Pattern and number of a frame's file name; None if the name has no number."""
    folder, _, file = name.rpartition("/")
    stem, dot, extension = file.rpartition(".")
    match = re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", stem)
    if match is None:
        return None
    return FramePattern(folder, match[1], f"{match[3]}{dot}{extension}"), int(match[2])


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
    parts = [split_number(name) for name in listed]
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
    found = pattern.on_disk(root)
    on_disk = set(found.values())
    missing = [name for name in listed if name not in on_disk]
    if missing:
        raise FileNotFoundError(f"{what}: its frame {root / missing[0]} does not exist")
    if unlisted == "all":
        return list(found.values())
    return [name for number, name in found.items() if numbers[0] <= number <= numbers[-1]]
