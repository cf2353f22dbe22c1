"""Writing of video files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from iff_detectron2.structures.image import check_bgr_image

from .capture import scan_packets

# Name of a codec -> OpenCV's four letters by the container. Browsers play VP8, VP9 and H.264, of
# which OpenCV's wheels have no encoder, since that would be under the GPL.
CODECS: dict[str, dict[str, str]] = {
    "vp8": {".webm": "VP80", ".mkv": "VP80"},
    "vp9": {".webm": "VP90", ".mp4": "vp09", ".mkv": "VP90"},
    "h264": {".mp4": "avc1", ".mkv": "H264"},
    "mpeg4": {".mp4": "mp4v", ".avi": "XVID"},
    "mjpeg": {".avi": "MJPG"},
}
# MPEG-4 counts time in at most 65535 parts of a second; WebM ends a file too early below 0.1.
_LOWEST_RATE, _HIGHEST_RATE, _EXACT_UP_TO = 0.3, 600.0, 65.0


def writable_rate(fps: float) -> float:
    """Return the nearest rate that every codec can be written with, to 0.01 of a frame per second.

    Phones say 211.222, screen recorders 90000, which is no rate but the clock's.
    """
    bounded = min(max(fps, _LOWEST_RATE), _HIGHEST_RATE)
    return round(bounded, 3 if bounded <= _EXACT_UP_TO else 2)


class VideoWriter:
    """Write frames into a video file that appears only when it is whole.

    Used in a `with` statement. Frames go to a hidden file next to `path`, which takes the place of
    `path` at the end; after an exception it is removed, and an older video at `path` stays.
    Frames with an odd side get their last column or row once more, since codecs store the
    colour of 2x2 pixels together.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, codec: str = "") -> None:
        """Prepare to write; the file is opened with the first frame, which sets the size.

        Args:
            path: the suffix names the container.
            fps: frames per second; see `writable_rate`.
            codec: a name of `CODECS`, or the four letters of an OpenCV codec; by default the first
                of `CODECS` that goes into the container: VP8 into `.webm`, VP9 into `.mp4`, motion
                JPEG into `.avi`.

        Raises:
            ValueError: if fps is not positive, or the codec does not go into the container.
        """
        self.path = Path(path)
        if not (np.isfinite(fps) and fps > 0):
            raise ValueError(f"{self.path}: frames per second must be positive, got {fps}")
        self.codec = _four_letters(self.path, codec)
        self.fps = writable_rate(float(fps))
        self.num_frames = 0
        # The extension stays last because OpenCV chooses the container by it.
        self._partial = self.path.with_name(
            f".{self.path.stem}.partial-{os.getpid()}{self.path.suffix}"
        )
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None

    def try_out(self) -> None:
        """Write a small video beside `path` and remove it, so that hours of work are not lost.

        Raises:
            OSError: if it cannot be written.
        """
        trial = self.path.with_name(f".{self.path.stem}.trial-{os.getpid()}{self.path.suffix}")
        try:
            with VideoWriter(trial, self.fps, self.codec) as writer:
                writer.write(np.zeros((64, 64, 3), np.uint8))
        except OSError as error:
            raise OSError(str(error).replace(str(trial), str(self.path))) from None
        finally:
            trial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 BGR [H, W, 3], of the size of the first one."""
        check_bgr_image(frame, f"frame {self.num_frames} of {self.path}")
        writer = self._writer or self._open(frame)
        height, width = frame.shape[:2]
        if (width, height) != self._size:
            raise ValueError(
                f"{self.path}: frame {self.num_frames} is {width}x{height}, but the video is "
                f"{self._size[0]}x{self._size[1]}; resize the frames to one size"
            )
        if height % 2 or width % 2:
            frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        writer.write(np.ascontiguousarray(frame))
        self.num_frames += 1

    def _open(self, frame: np.ndarray) -> cv2.VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        height, width = frame.shape[:2]
        even_size = (width + width % 2, height + height % 2)
        with _without_talk_of_tags():
            writer = cv2.VideoWriter(
                str(self._partial), cv2.VideoWriter.fourcc(*self.codec), self.fps, even_size
            )
        if not writer.isOpened():
            writer.release()
            self._partial.unlink(missing_ok=True)
            raise OSError(
                f"{self.path}: OpenCV cannot open a {self.path.suffix} file with codec "
                f"{self.codec!r} for writing; check that the folder can be written to, or choose "
                "another codec, such as vp8 with .webm or mjpeg with .avi"
            )
        self._writer, self._size = writer, (width, height)
        return writer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        try:
            if kind is None:
                self._publish()
        finally:
            self._partial.unlink(missing_ok=True)

    def _publish(self) -> None:
        if self.num_frames == 0:
            raise ValueError(f"{self.path}: no frame was written, so there is no video to keep")
        # OpenCV reports no write errors (a full disk, say): count what really arrived.
        try:
            arrived = len(scan_packets(self._partial))
        except OSError:
            arrived = 0
        if arrived != self.num_frames:
            raise OSError(
                f"{self.path}: only {arrived} of {self.num_frames} frames reached the file; "
                "check the free space on the disk"
            )
        os.replace(self._partial, self.path)


def _four_letters(path: Path, codec: str) -> str:
    suffix = path.suffix.lower()
    if not codec:
        codec = next((c for c in ("vp8", "vp9", "mjpeg") if suffix in CODECS[c]), "")
    letters = CODECS[codec].get(suffix, "") if codec in CODECS else codec
    if len(letters) != 4:
        ways = ", ".join(f"{name} in {' or '.join(of)}" for name, of in CODECS.items())
        asked = f"codec {codec!r}" if codec else "a codec"
        raise ValueError(
            f"{path}: there is no way to write {asked} into {suffix or 'a file without suffix'}; "
            f"choose one of {ways}, or OpenCV's four letters"
        )
    return letters


@contextmanager
def _without_talk_of_tags() -> Iterator[None]:
    """Leave out what OpenCV prints for each WebM file: that the container has no four letters."""
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            said.seek(0)
            os.write(
                2, b"".join(line for line in said if b"not supported with codec id" not in line)
            )
            os.close(stderr)
