"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
REST = "the rest"


class Stopwatch:
    """Seconds by what they were spent on, from the moment that it is made."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the time within under a name; nothing else may be counted meanwhile."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[what] = self.seconds.get(what, 0.0) + spent

    def waiting(self, what: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items and count the time that each takes to come."""
        iterator = iter(items)
        while True:
            with self.on(what):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def summary(self, num_frames: int) -> str:
        """Say how fast a run was and what its time went to, the largest part first.

        Args:
            num_frames: what the run has done; at least 1.
        """
        total = time.perf_counter() - self._start
        parts = {**self.seconds, REST: max(total - sum(self.seconds.values()), 0.0)}
        shares = ", ".join(
            f"{what} {spent / total:.0%}"
            for what, spent in sorted(parts.items(), key=lambda part: -part[1])
        )
        return (
            f"{num_frames} frames in {total:.1f} s, {num_frames / total:.2f} per second: {shares}"
        )


_END = object()
