"""Frames of a video file, in order and by number: the same frames and the same count."""

from __future__ import annotations

import os
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .capture import frame_time, open_capture, scan_packets
from .frame_table import FrameTable, Packet, table_of_packets, table_of_times

# Forward distance that is decoded rather than sought.
_NEAR = 12
# A seek that lands too late is repeated this many frames earlier.
_STEPS_BACK = (0, 16, 64, 256)
# OpenCV seeks that many frames before the wanted one, and decodes from there.
_OPENCV_BACK = 16
# Frames at the start that are decoded before the packets' times are believed.
_HEAD = 32
# Their packets may hold frames that are never shown, anywhere in the file.
_HIDDEN_FRAMES = ("VP80",)
_OUTLINE = 16
_MATROSKA = b"\x1a\x45\xdf\xa3"
_TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))


@dataclass(frozen=True)
class BadFrame:
    """Stands where a frame could not be decoded.

    Attributes:
        reason: one sentence without the number of the frame.
    """

    reason: str


class VideoFile:
    """The frames of a video file, counted from 0: those that decoding from the start gives.

    A frame that the decoder refuses keeps its number: it is a `BadFrame` in order and an OSError
    by number. The count is fixed when it is first asked for and never changes.

    Two things make that less than simple. A container lists packets, and a packet need not be a
    frame: the edit list of a trimmed clip hides some, others are never shown. So the times of the
    packets, read without decoding, are believed only if they ascend and the first frames and all
    from the last key frame on decode to just these times; otherwise the frames are counted by
    decoding once. And a container's own seeking is not exact: it rounds times to a mean frame
    rate, starts between key frames, or goes by bytes. So a seek is believed only if the frame that
    it gives has a known time, and only from the next key frame on. Where times do not tell the
    frames apart (MPEG program streams, some AVI), frames are read from the start.

    Threads may share a file; processes may not.
    """

    def __init__(self, path: str | os.PathLike[str], table: FrameTable | None = None) -> None:
        """Open a file and read its packets, without decoding more than its ends.

        Args:
            path: the video file.
            table: `table` of an earlier `VideoFile` of the same file, to spare the work.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it is no video, or no frame of it can be decoded.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"the video {self.path} does not exist")
        with self.path.open("rb") as stream:
            start = stream.read(_OUTLINE)
        if start and _TEXT.issuperset(start) and not start.startswith(b"YUV4MPEG2"):
            # FFmpeg follows play lists to other files, wherever those are.
            raise OSError(
                f"{self.path} is text, maybe a list of other files; name the video file itself"
            )
        self._lands_on_keys = start[4:8] == b"ftyp" or start.startswith(_MATROSKA)
        self._lock = threading.RLock()
        self._capture = open_capture(self.path)
        self._current = -1  # number of the frame that was decoded last
        self._sought = False  # whether decoding began elsewhere than at the start
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(rate) if np.isfinite(rate) and rate > 0 else 25.0
        self.announced = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        self.codec = code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")
        self.num_packets = 0
        self._packets: list[Packet] = []
        self._table = table
        if table is None:
            self._packets = scan_packets(self.path)
            self.num_packets = len(self._packets)
            self._check_decodable()
            self._table = self._table_of_packets()
            self._restart()

    @property
    def table(self) -> FrameTable:
        """What is known about the frames; counted by decoding where the packets do not tell."""
        with self._lock:
            if self._table is None:
                capture = open_capture(self.path)
                self._table = self._table_of_times(list(self._walk(capture)))
                capture.release()
            return self._table

    def __len__(self) -> int:
        return len(self.table.times)

    @property
    def known_length(self) -> int | None:
        """Number of frames where it is known without decoding the file."""
        return None if self._table is None else len(self._table.times)

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
        with self._lock:
            table = self.table
            if not 0 <= number < len(table.times):
                raise IndexError(
                    f"the video {self.path} has {len(table.times)} frames, frame {number} was "
                    "asked for (frames count from 0)"
                )
            frames = None if number in table.bad else self._decode(number, before)
            if frames is None and self._sought:
                # Some decoders hold frames back after a seek that they give when all was decoded.
                self._restart()
                frames = self._decode(number, before)
            if frames is None:
                table.bad.add(number)
                raise OSError(
                    f"frame {number} of the video {self.path} ({self.codec}, {len(self)} frames) "
                    "cannot be decoded; replace the file by an undamaged copy, or encode it anew"
                )
            return frames

    def frames(self, start: int = 0) -> Iterator[np.ndarray | BadFrame]:
        """Yield the frames from number `start` on in their order; each is decoded once."""
        if self._table is not None and self._table.keys:
            for number in range(start, len(self)):
                yield self._frame_or_bad(number)
            return
        times: list[int | None] = []
        capture = open_capture(self.path)
        try:
            for number, time in enumerate(self._walk(capture)):
                times.append(time)
                if number >= start:
                    done, frame = capture.retrieve()
                    yield frame if done and time is not None else _refused(self.codec)
        finally:
            capture.release()
        with self._lock:
            if self._table is None:
                self._table = self._table_of_times(times)

    def _frame_or_bad(self, number: int) -> np.ndarray | BadFrame:
        try:
            return self[number]
        except OSError:
            return _refused(self.codec)

    def _check_decodable(self) -> None:
        if not any(self._capture.grab() for _ in self._packets):
            raise OSError(
                f"none of the {len(self._packets)} frames of the video {self.path} can be decoded: "
                f"its codec is {self.codec or 'unknown'}, which this build of OpenCV may lack; "
                "encode it anew, for example with `ffmpeg -i IN -c:v libx264 OUT.mp4`"
            )

    def _table_of_packets(self) -> FrameTable | None:
        """Return the frames as the packets have them, None where these are not to be believed."""
        table = None if self.codec in _HIDDEN_FRAMES else table_of_packets(self._packets)
        return table if table is not None and self._ends_fit(table) else None

    def _table_of_times(self, times: list[int | None]) -> FrameTable:
        table = table_of_times(times, self._packets)
        # In a damaged file, seeking may count otherwise than decoding does.
        if table.keys and not self._ends_fit(table):
            table.keys = array("q")
        self._restart()
        return table

    def _ends_fit(self, table: FrameTable) -> bool:
        """Whether the first frames, and those from the last key frame on, decode to their times."""
        self._restart()
        last = max(set(range(len(table.times))) - table.bad)
        while self._current < min(_HEAD, last):
            if not self._is_next(table):
                return False
        if self._current < last and not self._seek(table.keys[-1], table):
            return False
        while self._current < last:
            if not self._is_next(table):
                return False
        return not self._capture.grab()

    def _is_next(self, table: FrameTable) -> bool:
        """Decode a frame; whether it is the next that can be."""
        expected = self._current + 1
        while expected in table.bad:
            expected += 1
        return self._advance(table) and self._current == expected

    def _walk(self, capture: cv2.VideoCapture) -> Iterator[int | None]:
        """Decode from the start; yield the time of each frame, None for one that is refused.

        A refusal looks like the end, but for the number of packets. Those behind the last frame
        that decodes do not count.
        """
        limit = len(self._packets) if self._table is None else len(self._table.times)
        passed = refused = 0
        while True:
            if capture.grab():
                for _ in range(refused):
                    yield None
                yield frame_time(capture)
                passed += refused + 1
                refused = 0
            elif passed + refused >= limit:
                return
            else:
                refused += 1

    def _restart(self) -> None:
        self._capture.release()
        self._capture = open_capture(self.path)
        self._current = -1
        self._sought = False

    def _decode(self, number: int, before: int) -> dict[int, np.ndarray] | None:
        """See `read`; None if the frame does not come."""
        if not self.table.keys:
            return self._decode_in_order(number, before)
        near = self._current <= number <= self._current + _NEAR
        if not near and not self._seek(number, self.table):
            return None
        frames: dict[int, np.ndarray] = {}
        while True:
            if max(number - before, 0) <= self._current <= number:
                done, frame = self._capture.retrieve()
                if done:
                    frames[self._current] = frame
            if self._current >= number or not self._advance(self.table):
                return frames if number in frames else None

    def _decode_in_order(self, number: int, before: int) -> dict[int, np.ndarray] | None:
        """See `_decode`, for files in which a frame is known by its place alone."""
        if self._current >= number or self._current < 0:
            self._restart()
        frames: dict[int, np.ndarray] = {}
        while self._current < number:
            self._current += 1
            grabbed = self._capture.grab()
            if grabbed and self._current >= number - before:
                done, frame = self._capture.retrieve()
                if done:
                    frames[self._current] = frame
        return frames if number in frames else None

    def _advance(self, table: FrameTable) -> bool:
        """Decode the next frame that can be; False at the end, and where all others are refused."""
        for _ in range(len(table.times) - self._current):
            if self._capture.grab():
                found = table.find(frame_time(self._capture))
                if found is not None and found > self._current:
                    self._current = found
                    return True
        return False

    def _seek(self, number: int, table: FrameTable) -> bool:
        """Go to the last key frame up to `number`, or to the start; False if that fails."""
        times, keys = table.times, table.keys
        key = keys[bisect_right(keys, number) - 1]
        # Where every seek lands on a key frame, those before it need not be decoded.
        if self._lands_on_keys and key and number > key + _OPENCV_BACK:
            found = self._jump(times[key] - times[0], _OPENCV_BACK + 1, table)
            if found is not None and key <= found <= number:
                return True
        for back in _STEPS_BACK if key else ():
            found = self._jump(times[max(key - back, 0)] - times[0], 0, table)
            if found is not None and found <= key:
                break
        else:
            self._restart()
        # Before the key frame the decoder may lack what the frames are built from.
        while self._current < key:
            if not self._advance(table):
                return False
        return self._current >= 0 or self._advance(table)

    def _jump(self, time: int, beyond: int, table: FrameTable) -> int | None:
        """Have OpenCV go some frames beyond a time, and return the frame where it is then."""
        # OpenCV turns the number into a time with the mean frame rate, and so do we.
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, int(time / 1e6 * self.fps) + beyond)
        self._sought = True
        found = table.find(frame_time(self._capture)) if self._capture.grab() else None
        self._current = -1 if found is None else found
        return found


def _refused(codec: str) -> BadFrame:
    return BadFrame(f"the {codec or 'video'} decoder refuses it")
