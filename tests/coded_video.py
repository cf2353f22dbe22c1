"""Videos whose frames show their own number, so that a test sees which frame it got."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from format_writers import write_video

_BITS = 8
_SIDE = 8


def coded_frame(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """BGR frame: the number in black and white squares over a background that moves."""
    width, height = size
    background = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    frame = np.roll(cv2.GaussianBlur(background, (0, 0), 3), 2 * number, axis=1)
    frame[: 2 * _SIDE, : _BITS * _SIDE] = 0
    for bit in range(_BITS):
        if number >> bit & 1:
            frame[_SIDE // 2 : 3 * _SIDE // 2, bit * _SIDE : (bit + 1) * _SIDE] = 255
    return frame


def shown_number(frame: np.ndarray) -> int:
    """Return the number that a frame shows."""
    middle = [frame[_SIDE, bit * _SIDE + _SIDE // 2].mean() for bit in range(_BITS)]
    return sum(1 << bit for bit, value in enumerate(middle) if value > 127)


def write_coded_video(path: Path, codec: str, num_frames: int) -> None:
    """Return a video whose frame n shows the number n."""
    write_video(path, [coded_frame(number) for number in range(num_frames)], codec)


def vary_frame_rate(source: Path, target: Path, codec: str) -> None:
    """Copy the packets of a video into one whose frames last 1 to 5 ticks each, in turn."""
    if not hasattr(cv2, "VIDEOWRITER_PROP_PTS"):
        pytest.skip("OpenCV writes the times of frames from 4.11 on")
    packets = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    size = tuple(
        int(packets.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    code = cv2.VideoWriter.fourcc(*codec)
    raw = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
    writer = cv2.VideoWriter(str(target), cv2.CAP_FFMPEG, code, 25.0, size, raw)
    assert writer.isOpened()
    ticks = 0
    for number in range(10_000):
        done, packet = packets.read()
        if not done:
            break
        key = int(packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME))
        writer.set(cv2.VIDEOWRITER_PROP_KEY_FLAG, key)
        writer.set(cv2.VIDEOWRITER_PROP_PTS, ticks)
        writer.write(packet)
        ticks += 1 + (2 * number) % 5
    writer.release()


def decode_in_order(path: Path) -> list[np.ndarray]:
    """All frames, by nothing but decoding from the start."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(frame)


def _motion_jpegs(content: bytearray) -> list[slice]:
    """Return where the frames of an AVI file of motion JPEG lie."""
    found, at = [], content.index(b"movi")
    while (at := content.find(b"00dc", at + 1, content.find(b"idx1"))) > 0:
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        found.append(slice(at + 8, at + 8 + size))
    return found


def damage_frames(source: Path, target: Path, numbers: Iterable[int]) -> Path:
    """Copy a motion JPEG file with these frames overwritten by zeros."""
    content = bytearray(source.read_bytes())
    places = _motion_jpegs(content)
    for number in numbers:
        content[places[number]] = bytes(places[number].stop - places[number].start)
    target.write_bytes(content)
    return target


def trim(source: Path, target: Path, first: int, count: int) -> Path:
    """Copy an mp4 file with an edit list that shows `count` frames from `first` on."""
    content = bytearray(source.read_bytes())
    entry = content.index(b"elst") + 12
    ticks = 12800 // 25  # OpenCV's ticks of a frame at 25 frames a second
    content[entry : entry + 8] = struct.pack(">Ii", count * 40, first * ticks)
    target.write_bytes(content)
    return target
