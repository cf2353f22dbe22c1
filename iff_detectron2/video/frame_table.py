"""When the frames of a video file are shown, from its packets or from decoding."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

# Time in microseconds, and whether decoding can begin there.
Packet = tuple[int, bool]

_LONG_AGO = -(1 << 62)


@dataclass
class FrameTable:
    """The frames of a video file: how many there are, when they are shown, where to enter.

    Attributes:
        times: time of each frame in microseconds; of one that cannot be decoded, the time of the
            frame before it.
        keys: numbers of the frames at which decoding can begin, ascending; empty if the times do
            not tell the frames apart, so that only the order does.
        bad: numbers of the frames that are known not to decode.
    """

    times: array[int]
    keys: array[int]
    bad: set[int] = field(default_factory=set)

    def find(self, time: int) -> int | None:
        """Return the number of the frame of a time, where times tell the frames apart."""
        frame = bisect_left(self.times, time)
        return frame if frame < len(self.times) and self.times[frame] == time else None


def table_of_packets(packets: Sequence[Packet]) -> FrameTable | None:
    """Return the frames if each packet can be one: with a time of its own, and in sane order.

    Args:
        packets: in the order of the file.
    """
    latest = [_LONG_AGO, *accumulate((time for time, _ in packets), max)]
    # An edit list of several parts goes back in time at a key frame.
    goes_back = any(
        key and time <= last for (time, key), last in zip(packets, latest, strict=False)
    )
    shown = sorted(packets)
    if goes_back or not packets[0][1] or not shown[0][1]:
        return None
    if any(a == b for (a, _), (b, _) in pairwise(shown)):
        return None
    return FrameTable(
        array("q", [time for time, _ in shown]),
        array("q", [number for number, (_, key) in enumerate(shown) if key]),
    )


def table_of_times(times: Sequence[int | None], packets: Sequence[Packet]) -> FrameTable:
    """Return the frames as decoding gave them, None for one that was refused.

    Args:
        times: in the order of decoding.
        packets: in the order of the file; they tell the key frames.
    """
    good = [time for time in times if time is not None]
    filled: array[int] = array("q")
    for time in times:
        filled.append(time if time is not None else (filled[-1] if filled else _LONG_AGO))
    bad = {number for number, time in enumerate(times) if time is None}
    table = FrameTable(filled, array("q"), bad)
    if all(a < b for a, b in pairwise(good)):
        shown = (table.find(time) for time in _key_times(good, packets))
        table.keys = array("q", sorted({number for number in shown if number is not None}))
    return table


def _key_times(times: Sequence[int], packets: Sequence[Packet]) -> Iterable[int]:
    """Return the times of the key frames on the decoder's clock.

    An edit list sets it to 0 at the first frame shown, the packets' to 0 at the first packet.
    """
    known = {time for time, _ in packets}
    for first in sorted(known):
        shift = first - times[0]
        if all(time + shift in known for time in times):
            return [times[0], *(time - shift for time, key in packets if key)]
    return ()
