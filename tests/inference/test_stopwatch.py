"""A stopwatch on a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iff_detectron2.inference import stopwatch
from iff_detectron2.inference.stopwatch import Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def items(self) -> Iterator[str]:
        """Two items; each takes 2 seconds to come, and the end half a second."""
        for item in "ab":
            self.now += 2.0
            yield item
        self.now += 0.5


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch.time, "perf_counter", clock)
    return clock


def test_time_is_told_by_what_it_was_spent_on(clock: Clock):
    watch = Stopwatch()
    seen = []
    for item in watch.waiting("waiting", clock.items()):
        seen.append(item)
        with watch.on("detecting"):
            clock.now += 3.0
        clock.now += 1.0
    assert seen == ["a", "b"]
    assert watch.seconds == pytest.approx({"waiting": 4.5, "detecting": 6.0})
    assert watch.summary(5) == (
        "5 frames in 12.5 s, 0.40 per second: detecting 48%, waiting 36%, the rest 16%"
    )


def test_what_fails_is_counted_too(clock: Clock):
    def draw() -> None:
        with watch.on("drawing"):
            clock.now += 1.5
            raise OSError("disk full")

    watch = Stopwatch()
    with pytest.raises(OSError, match="full"):
        draw()
    assert watch.seconds == {"drawing": 1.5}
