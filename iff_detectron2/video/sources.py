"""Where the frames of a video come from: a video file, a folder of images or a camera."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np

from .images import IMAGE_SUFFIXES, frame_files, read_image
from .reader import BadFrame, VideoFile

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

    def length(self) -> int | None:
        """Return the number of frames, counted where it is not known; None for a camera."""
        return self.num_frames

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
        self.files = frame_files(folder)
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
            "bytes": sum(map(_size_on_disk, self.files)),
        }


def _size_on_disk(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _read_image(file: Path) -> np.ndarray | BadFrame:
    try:
        # As the dataset mapper reads it, so that both detect the same.
        return np.ascontiguousarray(read_image(str(file), "BGR"))
    except OSError as error:
        return BadFrame(str(error) if file.is_file() else f"{file} is a link that leads nowhere")


class FileSource(FrameSource):
    """A video file of any container and codec that OpenCV reads."""

    def __init__(self, path: Path) -> None:
        """Open the file; its packets are read, its ends decoded.

        Raises:
            OSError: it is no video, or no frame of it can be decoded.
        """
        super().__init__()
        self.path = path
        self.name = path.stem
        self._file = VideoFile(path)
        self.fps = self._file.fps
        self.num_frames = self._file.known_length

    def length(self) -> int:
        return len(self._file)

    def read(self, start: int = 0) -> Frames:
        yield from self._file.frames(start)
        # A rate that varies makes containers without a table of frames guess.
        said, found = self._file.announced, len(self._file)
        if said > 1.02 * self._file.num_packets + 1:
            self.notes.append(f"{self.path} is said to have {said} frames, {found} could be read")

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


def open_source(what: str, fps: float | None = None) -> FrameSource:
    """Open a video file, a folder of images, or the camera of that number.

    Args:
        what: a path; a number that is no path is a camera's.
        fps: frames a second, instead of what the source says (a folder: 25).

    Raises:
        FileNotFoundError: if it is neither.
        OSError: if the file is no video.
        ValueError: if the folder holds no image, or there is no such camera.
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
            f"there is no {what}: no video file, no folder of images, no number of a camera"
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
