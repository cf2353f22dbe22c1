"""Frames of a video file by number, exactly those that decoding from the start would give."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

# Forward distance that is decoded rather than sought.
_NEAR = 12
# A seek that lands too late is repeated this many frames earlier.
_STEPS_BACK = (0, 16, 64, 256)


@dataclass
class FrameTable:
    """What is known about the frames of a video file before they are decoded.

    Attributes:
        times: time of each frame in microseconds.
        keys: numbers of the key frames, ascending; empty if the file cannot be sought in.
    """

    times: array[int]
    keys: array[int]

    def find(self, time: int) -> int | None:
        """Return the number of the frame of a time, in a file that can be sought in."""
        frame = bisect_left(self.times, time)
        return frame if frame < len(self.times) and self.times[frame] == time else None


class VideoFile:
    """Random access to the frames of a video file, counted from 0.

    A container's own seeking is not exact: it rounds times to a mean frame rate, starts between
    key frames, or goes by bytes. So the times of all frames are collected first, from the packets
    without decoding them. A seek is believed only if the frame that it gives has one of these
    times, and only from the next key frame on. Where times do not tell the frames apart (MPEG
    program streams, some AVI) the frames are counted by decoding once and read from the start.
    So they are where decoding meets a packet that gives no frame, in a damaged file; a seek beyond
    such a packet does not meet it, and is off by its frame.

    Not safe to use from two threads or processes at once.
    """

    def __init__(self, path: str | os.PathLike[str], table: FrameTable | None = None) -> None:
        """Open a file and count its frames.

        Args:
            path: the video file.
            table: `table` of an earlier `VideoFile` of the same file, to spare the counting.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it is no video that FFmpeg can decode.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"the video {self.path} does not exist")
        self._capture = self._open()
        self._current = -1  # number of the frame that was decoded last
        if table is not None:
            self.table = table
        else:
            self.table = self._scan_packets()
            times, keys = self.table.times, self.table.keys
            distinct = all(a < b for a, b in pairwise(times)) and keys[:1] == array("q", [0])
            if distinct and self._capture.grab() and self._time() == times[0]:
                self._current = 0
            else:
                self._count_by_decoding()
        if not self.table.times:
            raise OSError(
                f"no frame of the video {self.path} can be decoded; is it a complete video file?"
            )

    def __len__(self) -> int:
        return len(self.table.times)

    def __getitem__(self, number: int) -> np.ndarray:
        """Frame `number`, uint8 BGR [H, W, 3], upright where the file says how it was held.

        Raises:
            IndexError: the video has no such frame.
            OSError: it cannot be decoded.
        """
        return self.read(number)[number]

    def read(self, number: int, before: int = 0) -> dict[int, np.ndarray]:
        """Frame `number`, and of the `before` frames before it those that are decoded on the way.

        Returns:
            Number -> frame, ascending; `number` is the last.

        Raises:
            IndexError: the video has no such frame.
            OSError: it cannot be decoded.
        """
        self._check(number)
        frames = self._decode(number, before)
        if frames is None and self.table.keys:
            # A packet without a frame, or a frame without a packet: only decoding counts right.
            self._count_by_decoding()
            self._check(number)
            frames = self._decode(number, before)
        if frames is None:
            raise OSError(
                f"frame {number} of the video {self.path} cannot be decoded; replace the file by "
                "an undamaged copy, or encode it anew"
            )
        return frames

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self):
            raise IndexError(
                f"the video {self.path} has {len(self)} frames, frame {number} was asked for "
                "(frames count from 0)"
            )

    def _open(self, raw: bool = False) -> cv2.VideoCapture:
        # One thread: worker processes share the cores, and a forked one cannot end the threads
        # of a file that its parent opened.
        options = [cv2.CAP_PROP_N_THREADS, 1, *([cv2.CAP_PROP_FORMAT, -1] if raw else [])]
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            raise OSError(f"the video {self.path} cannot be opened; is it a complete video file?")
        return capture

    def _time(self, capture: cv2.VideoCapture | None = None) -> int:
        """Time of the frame grabbed last, in microseconds."""
        return round((capture or self._capture).get(cv2.CAP_PROP_POS_MSEC) * 1000)

    def _scan_packets(self) -> FrameTable:
        """Return times of all frames and which are key frames, without decoding."""
        packets = self._open(raw=True)
        found = []
        while packets.grab():
            found.append((self._time(packets), packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) != 0))
        packets.release()
        found.sort()
        times = array("q", [time for time, _ in found])
        return FrameTable(times, array("q", [n for n, (_, key) in enumerate(found) if key]))

    def _count_by_decoding(self) -> None:
        """Decode the whole file once for the times of its frames; from then on, no seeking."""
        self._restart()
        self.table = FrameTable(array("q"), array("q"))
        while self._capture.grab():
            self.table.times.append(self._time())
        self._restart()

    def _restart(self) -> None:
        self._capture.release()
        self._capture = self._open()
        self._current = -1

    def _decode(self, number: int, before: int) -> dict[int, np.ndarray] | None:
        """See `read`; None if a frame on the way is missing or is another than expected."""
        if not self._current <= number <= self._current + _NEAR and not self._seek(number):
            return None
        frames: dict[int, np.ndarray] = {}
        while self._current <= number:
            if self._current >= max(number - before, 0):
                done, frame = self._capture.retrieve()
                if not done:
                    return None
                frames[self._current] = frame
            if self._current == number:
                return frames
            if not self._advance():
                return None
        return None

    def _advance(self) -> bool:
        """Decode the next frame; False, and back to the start, if it is not the expected one."""
        if self._capture.grab() and self._time() == self.table.times[self._current + 1]:
            self._current += 1
            return True
        self._restart()
        return False

    def _seek(self, number: int) -> bool:
        """Go to the last key frame up to `number`, or to the start; False if that fails."""
        times, keys = self.table.times, self.table.keys
        key = keys[bisect_right(keys, number) - 1] if keys else 0
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        for back in _STEPS_BACK if key else ():
            # OpenCV turns the number into a time with the mean frame rate, and so do we.
            seconds = (times[max(key - back, 0)] - times[0]) / 1e6
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, int(seconds * rate))
            found = self.table.find(self._time()) if self._capture.grab() else None
            if found is not None and found <= key:
                self._current = found
                break
        else:
            self._restart()
        # Before the key frame the decoder may lack what the frames are built from.
        while self._current < key:
            if not self._advance():
                return False
        return True
