"""Frames inside of video files: a name for each, `clip.mp4#frame=12`, and reading by that name."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from iff_detectron2.structures.image import in_image_format

from .images import read_image
from .reader import FrameTable, VideoFile

VIDEO_SUFFIXES = (
    *(".avi", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
)
_OPEN_FILES = 4
# What the parent learned about files while it read the dataset, its workers know too.
_KNOWN_FILES = 4096
_KEPT_BYTES = 128 << 20
# Frames before the wanted one that are kept too: the reference frames of training are near.
_KEPT_BEFORE = 16


@dataclass(frozen=True)
class VideoFileFrames(Sequence[str]):
    """Names of the frames of a video file.

    Attributes:
        path: the video file.
        numbers: number of each frame in the file, counted from 0.
    """

    path: str
    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> VideoFileFrames: ...

    def __getitem__(self, index: int | slice) -> str | VideoFileFrames:
        if isinstance(index, slice):
            return VideoFileFrames(self.path, self.numbers[index])
        return f"{self.path}#frame={self.numbers[index]}"


def split_frame_name(file_name: str) -> tuple[str, int] | None:
    """Video file and frame number of a name such as `clip.mp4#frame=12`; None for a plain file."""
    match = re.fullmatch(r"(.+)#frame=([0-9]+)", file_name, re.DOTALL)
    return (match[1], int(match[2])) if match else None


def check_video_name(path: str) -> None:
    """Raise ValueError unless the name ends like a video file's."""
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(
            f"the video {path} must be a file of the kinds {', '.join(VIDEO_SUFFIXES)}"
        )


class VideoFrameCache:
    """Reads frames of video files; keeps some files open and the latest frames decoded.

    Threads may share it. A forked process forgets the open files, in which it would share its
    parent's position, but not what is known about them.

    Args:
        open_files: most files kept open.
        kept_bytes: most bytes of frames kept.
    """

    def __init__(self, open_files: int = _OPEN_FILES, kept_bytes: int = _KEPT_BYTES) -> None:
        self._open_files = open_files
        self._kept_bytes = kept_bytes
        self._tables: OrderedDict[str, FrameTable] = OrderedDict()
        self._frames: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self.forget_files()

    def forget_files(self) -> None:
        """Begin with no file open, and with a lock that no thread holds."""
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._files: OrderedDict[str, VideoFile] = OrderedDict()

    def open(self, path: str) -> VideoFile:
        """Return the video file, opened unless it is.

        Raises:
            ValueError: the name does not end like a video file's.
            FileNotFoundError, OSError: the file is missing or no video.
        """
        if self._process != os.getpid():
            self.forget_files()
        with self._lock:
            if path not in self._files:
                check_video_name(path)
                self._files[path] = VideoFile(path, self._tables.get(path))
                while len(self._files) > self._open_files:
                    self._files.popitem(last=False)
            self._files.move_to_end(path)
            return self._files[path]

    def length(self, path: str) -> int:
        """Return the number of frames of a video file; errors as of `open`."""
        file = self.open(path)
        table = file.table
        with self._lock:
            self._tables[path] = table
            while len(self._tables) > _KNOWN_FILES:
                self._tables.popitem(last=False)
        return len(file)

    def read(self, path: str, number: int) -> np.ndarray:
        """Return a frame, uint8 BGR [H, W, 3], the caller's own.

        Raises:
            FileNotFoundError: the video is missing.
            OSError: the video or the frame cannot be decoded.
            ValueError: the video has no such frame.
        """
        file = self.open(path)
        with self._lock:
            kept = self._frames.get((path, number))
            if kept is not None:
                self._frames.move_to_end((path, number))
                return kept.copy()
        self.length(path)
        try:
            decoded = file.read(number, _KEPT_BEFORE)
        except IndexError as error:
            raise ValueError(str(error)) from None
        with self._lock:
            for frame, image in decoded.items():
                self._keep((path, frame), image)
        return decoded[number].copy()

    def _keep(self, key: tuple[str, int], image: np.ndarray) -> None:
        if (old := self._frames.pop(key, None)) is not None:
            self._bytes -= old.nbytes
        self._frames[key] = image
        self._bytes += image.nbytes
        while self._bytes > self._kept_bytes and len(self._frames) > 1:
            self._bytes -= self._frames.popitem(last=False)[1].nbytes


_CACHE = VideoFrameCache()


def video_length(path: str) -> int:
    """Return the number of frames of a video file, of which little is decoded where that will do.

    Raises:
        FileNotFoundError, OSError, ValueError: the file is missing or no video.
    """
    return _CACHE.length(path)


def video_frame_size(path: str) -> tuple[int, int]:
    """Width and height in pixels of the frames of a video file."""
    height, width = _CACHE.read(path, 0).shape[:2]
    return width, height


def read_frame(file_name: str, image_format: str | None = None) -> np.ndarray:
    """Read an image file, or a frame of a video file, as Detectron2's `read_image` does.

    Args:
        file_name: an image (see `images.read_image` for those of more than 8 bits), or
            `<video file>#frame=<number from 0>`.
        image_format: format of `detectron2.data.detection_utils.read_image`.

    Returns:
        (H, W, C), uint8 unless the format says otherwise.

    Raises:
        FileNotFoundError: the file is missing.
        OSError: it cannot be decoded.
        ValueError: the video has no such frame.
    """
    parts = split_frame_name(file_name)
    if parts is None:
        return read_image(file_name, image_format)
    return in_image_format(_CACHE.read(*parts), image_format)
