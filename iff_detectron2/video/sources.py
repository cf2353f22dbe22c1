"""Where the frames of a video come from: a video file, a folder of images or a camera."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import detection_utils

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

# FFmpeg would follow these to other files and to the network.
_LISTS = (b"#EXTM3U", b"ffconcat")

# Reads that may fail in a row before a video file counts as cut off.
_MAX_BAD_RUN = 100


@dataclass(frozen=True)
class BadFrame:
    """Stands where a frame could not be decoded.

    Attributes:
        reason: one sentence without the number of the frame.
    """

    reason: str


Frames = Generator["np.ndarray | BadFrame", None, None]


class FrameSource(ABC):
    """A video that is read once, in order.

    Attributes:
        name: what to call it in messages and files.
        fps: frames a second.
        num_frames: as far as is known before it is read; None for a camera.
        notes: sentences about what was found wrong with the whole, filled while reading.
    """

    name: str
    fps: float
    num_frames: int | None

    def __init__(self) -> None:
        self.notes: list[str] = []

    @abstractmethod
    def read(self, start: int = 0) -> Frames:
        """Yield the frames from number `start` on, uint8 BGR [H, W, 3]."""

    def frame_name(self, index: int) -> str | None:
        """Return the name of a frame as `file_name` of dataset dicts has it, None for a camera."""
        return None

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Return what tells this source from another: equal for the same unchanged file or
        folder."""


class FolderSource(FrameSource):
    """The images of a folder in natural order: `2.png` before `10.png`."""

    def __init__(self, folder: Path, fps: float = 25.0) -> None:
        """List the images.

        Raises:
            ValueError: if there is no image in the folder.
        """
        super().__init__()
        self.files = sorted(
            (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file()),
            key=lambda f: natural_key(f.name),
        )
        if not self.files:
            raise ValueError(
                f"{folder} holds no image; files ending in {', '.join(IMAGE_SUFFIXES)} are read"
            )
        self.folder = folder
        self.name = folder.resolve().name
        self.fps = fps
        self.num_frames = len(self.files)

    def read(self, start: int = 0) -> Frames:
        yield from map(_read_image, self.files[start:])

    def frame_name(self, index: int) -> str:
        return str(self.files[index])

    def identity(self) -> dict[str, object]:
        return {
            "folder": str(self.folder.resolve()),
            "first": self.files[0].name,
            "last": self.files[-1].name,
            "frames": len(self.files),
            "bytes": sum(f.stat().st_size for f in self.files),
        }


def _read_image(file: Path) -> np.ndarray | BadFrame:
    try:
        # As the dataset mapper reads it, so that both detect the same.
        return np.ascontiguousarray(detection_utils.read_image(str(file), "BGR"))
    # PIL reports some broken headers as SyntaxError, and sizes beyond reason as ValueError.
    except (OSError, SyntaxError, ValueError) as error:
        return BadFrame(f"{file.name} cannot be decoded ({error})")


class FileSource(FrameSource):
    """A video file of any container and codec that OpenCV reads."""

    def __init__(self, path: Path) -> None:
        """Open the file once, to see that it can be.

        Raises:
            ValueError: if the file cannot be opened as a video.
        """
        super().__init__()
        self.path = path
        self.name = path.stem
        with path.open("rb") as stream:
            if stream.read(16).startswith(_LISTS):
                raise ValueError(f"{path} is a list of other files; name the video file itself")
        capture = self._open()
        fps = capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        self.fps = float(fps) if np.isfinite(fps) and fps > 0 else 25.0
        self.num_frames = count if count > 0 else None

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise ValueError(
                f"{self.path} cannot be opened as a video; check the file, or convert it to a "
                "common format such as H.264 in .mp4"
            )
        return capture

    def read(self, start: int = 0) -> Frames:
        capture = self._open()
        number = 0
        try:
            # Decoded from the first frame on: seeking is not exact in every container.
            while (group := self._next(capture, number)) is not None:
                for frame in group:
                    if number >= start:
                        yield frame
                    number += 1
        finally:
            capture.release()
        if self.num_frames is not None and number != self.num_frames:
            self.notes.append(
                f"{self.path} is said to have {self.num_frames} frames, {number} could be read"
            )

    def _next(self, capture: cv2.VideoCapture, number: int) -> list[np.ndarray | BadFrame] | None:
        """Return the next frame, after those before it that cannot be decoded; None at the end."""
        bad: list[np.ndarray | BadFrame] = []
        while True:
            arrived, frame = capture.read()
            if arrived:
                return [*bad, frame]
            # A frame that fails to decode looks like the end, but for the count.
            left = (self.num_frames or 0) - number - len(bad)
            if left <= 0 or len(bad) >= _MAX_BAD_RUN:
                return None
            bad.append(BadFrame("the video decoder reports an error"))

    def frame_name(self, index: int) -> str:
        return f"{self.path}#frame={index}"

    def identity(self) -> dict[str, object]:
        return {"file": str(self.path.resolve()), "bytes": self.path.stat().st_size}


class CameraSource(FrameSource):
    """A camera by its index; it ends when the camera does or the reader stops."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.name = f"camera_{index}"
        self.num_frames = None
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise ValueError(f"there is no camera {index}, or another program is using it")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and fps > 0 else 25.0

    def read(self, start: int = 0) -> Frames:
        if start:
            raise ValueError("a camera cannot be read from a frame in the past")
        try:
            while True:
                arrived, frame = self._capture.read()
                if not arrived:
                    return
                yield frame
        finally:
            self._capture.release()

    def identity(self) -> dict[str, object]:
        return {"camera": self.index}


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key that takes runs of digits as numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts], name


def open_source(what: str, fps: float | None = None) -> FrameSource:
    """Open a video file, a folder of images, or the camera of that number.

    Args:
        what: a path; a number that is no path is a camera's.
        fps: frames a second, instead of what the source says (a folder: 25).

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if it cannot be opened.
    """
    path = Path(what)
    source: FrameSource
    if path.is_dir():
        source = FolderSource(path)
    elif path.is_file():
        source = FileSource(path)
    elif what.isdecimal():
        source = CameraSource(int(what))
    else:
        raise FileNotFoundError(
            f"{what} is no video file, no folder of images and no number of a camera"
        )
    if fps is not None:
        if not (np.isfinite(fps) and fps > 0):
            raise ValueError(f"frames per second must be positive, got {fps}")
        source.fps = fps
    return source


def bridged(
    frames: Iterator[np.ndarray | BadFrame],
) -> Iterator[tuple[np.ndarray, str | None]]:
    """Put the last good frame where one could not be decoded, the first good one at the start.

    Yields:
        The frame, and None or the reason why it stands in for another.

    Raises:
        ValueError: if no frame at all could be decoded.
    """
    last: np.ndarray | None = None
    waiting: list[str] = []
    for frame in frames:
        if isinstance(frame, BadFrame):
            if last is None:
                waiting.append(frame.reason)
            else:
                yield last, frame.reason
            continue
        last = frame
        for reason in waiting:
            yield last, reason
        waiting = []
        yield last, None
    if last is None:
        reasons = f"; the first: {waiting[0]}" if waiting else ""
        raise ValueError(f"no frame could be decoded{reasons}")
