"""Video decoders beside each other: how many frames, and how long a frame by number takes.

`python benchmarks/decoders.py FILE ...` compares the package's `VideoFile`, which is OpenCV's
decoder, with PyAV (`pip install av`), which is used here only. PyAV seeks to the key frame before
the wanted time and decodes up to it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

import av
import numpy as np

from iff_detectron2.video.reader import BadFrame, VideoFile


def decoded(packet: av.Packet) -> list[av.VideoFrame] | None:
    """Return the frames that come with a packet; None if it is refused."""
    try:
        return packet.decode()
    except av.error.InvalidDataError:
        return None


def pyav_frames(path: str) -> tuple[list[int], int]:
    """Return the times of the frames that PyAV decodes, and how many are damaged or refused."""
    with av.open(path) as container:
        packets = [decoded(packet) for packet in container.demux(container.streams.video[0])]
    frames = [frame for given in packets for frame in given or ()]
    return [frame.pts for frame in frames], packets.count(None) + sum(f.is_corrupt for f in frames)


def pyav_reader(path: str, times: list[int]) -> Callable[[int], np.ndarray]:
    container = av.open(path)
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1

    def read(number: int) -> np.ndarray:
        container.seek(times[number], stream=stream)
        for frame in container.decode(stream):
            if frame.pts == times[number]:
                return frame.to_ndarray(format="bgr24")
        raise OSError(f"frame {number} of {path} did not come")

    return read


def milliseconds(read: Callable[[int], np.ndarray], numbers: list[int]) -> float:
    start = time.process_time()
    for number in numbers:
        read(number)
    return (time.process_time() - start) / len(numbers) * 1000


def main() -> None:
    """Print one line for each file."""
    print("file: frames and of them bad, ms a frame by number | the same of PyAV")
    for path in sys.argv[1:]:
        times, av_bad = pyav_frames(path)
        try:
            frames = list(VideoFile(path).frames())
        except OSError as error:
            print(f"{path}: {error} | {len(times)} {av_bad}")
            continue
        bad = [number for number, frame in enumerate(frames) if isinstance(frame, BadFrame)]
        both = sorted(set(range(min(len(frames), len(times)))) - set(bad))
        numbers = random.Random(0).choices(both, k=40)
        file = VideoFile(path)
        len(file)
        ours = milliseconds(file.__getitem__, numbers)
        print(f"{path}: {len(frames)} {len(bad)} {ours:.1f} |", end=" ")
        try:
            theirs = f"{milliseconds(pyav_reader(path, times), numbers):.1f}"
        except OSError as error:
            theirs = str(error)
        print(f"{len(times)} {av_bad} {theirs}", flush=True)


if __name__ == "__main__":
    main()
