"""OpenCV's decoder of a video file, and what it says of the packets in it."""

from __future__ import annotations

from pathlib import Path

import cv2

from .frame_table import Packet


def scan_packets(path: Path) -> list[Packet]:
    """Return the packets of a video file in their order, without decoding them.

    Raises:
        OSError: it cannot be opened.
    """
    capture = open_capture(path, raw=True)
    packets = []
    while capture.grab():
        packets.append((frame_time(capture), capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) != 0))
    capture.release()
    return packets


def open_capture(path: Path, raw: bool = False) -> cv2.VideoCapture:
    # One thread: worker processes share the cores, and a forked one cannot end the threads of a
    # file that its parent opened.
    options = [cv2.CAP_PROP_N_THREADS, 1, *([cv2.CAP_PROP_FORMAT, -1] if raw else [])]
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise OSError(
            f"the video {path} cannot be opened; is it a complete video file? If it is, convert it "
            "to a common format such as H.264 in .mp4"
        )
    return capture


def frame_time(capture: cv2.VideoCapture) -> int:
    """Time of the frame grabbed last, in microseconds."""
    return round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1000)
