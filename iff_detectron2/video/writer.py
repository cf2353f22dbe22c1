"""Writing of video files."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from iff_detectron2.structures.image import check_bgr_image


class VideoWriter:
    """Write frames into a video file that appears only when it is whole.

    Used in a `with` statement. Frames go to a hidden file next to `path`, which takes the place of
    `path` at the end; after an exception it is removed, and an older video at `path` stays.
    Frames with an odd side get their last column or row once more, since codecs store the
    colour of 2x2 pixels together.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, codec: str = "mp4v") -> None:
        """Prepare to write; the file is opened with the first frame, which sets the size.

        Args:
            path: ends with `.mp4`, or another container that goes with the codec.
            fps: frames per second.
            codec: the four letters of an OpenCV codec.

        Raises:
            ValueError: if fps is not positive, the codec has not four letters, or the path has no
                extension.
        """
        self.path = Path(path)
        if not (np.isfinite(fps) and fps > 0):
            raise ValueError(f"{self.path}: frames per second must be positive, got {fps}")
        if len(codec) != 4:
            raise ValueError(f"{self.path}: a codec is named by four letters, got {codec!r}")
        if not self.path.suffix:
            raise ValueError(f"{self.path}: give the video file an extension, such as .mp4")
        self.fps = float(fps)
        self.codec = codec
        self.num_frames = 0
        # The extension stays last because OpenCV chooses the container by it.
        self._partial = self.path.with_name(
            f".{self.path.stem}.partial-{os.getpid()}{self.path.suffix}"
        )
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None

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
        writer = cv2.VideoWriter(
            str(self._partial), cv2.VideoWriter.fourcc(*self.codec), self.fps, even_size
        )
        if not writer.isOpened():
            writer.release()
            self._partial.unlink(missing_ok=True)
            raise OSError(
                f"{self.path}: OpenCV cannot open a {self.path.suffix} file with codec "
                f"{self.codec!r} for writing; check that the folder can be written to, or choose "
                "another codec or extension, such as 'mp4v' with .mp4 or 'MJPG' with .avi"
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
        capture = cv2.VideoCapture(str(self._partial))
        arrived = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if arrived != self.num_frames:
            raise OSError(
                f"{self.path}: only {arrived} of {self.num_frames} frames reached the file; "
                "check the free space on the disk"
            )
        os.replace(self._partial, self.path)
