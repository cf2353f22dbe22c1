"""Blocks of files: in order, in threads only where that helps."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from iff_detectron2.utils import parallel
from iff_detectron2.utils.parallel import map_blocks, split_blocks

BLOCKS = split_blocks(range(1000), 64)


def double(block: Sequence[int]) -> list[int]:
    return [2 * item for item in block]


@pytest.mark.parametrize("mostly_python", [False, True])
def test_results_come_in_order(mostly_python):
    results = list(map_blocks(double, BLOCKS, "", mostly_python=mostly_python))
    assert [item for block in results for item in block] == list(range(0, 2000, 2))


@pytest.mark.parametrize("mostly_python", [False, True])
def test_no_blocks(mostly_python):
    assert list(map_blocks(double, [], "", mostly_python=mostly_python)) == []


@pytest.mark.parametrize("mostly_python", [False, True])
def test_an_error_ends_it(mostly_python):
    def fail_at_the_third(block: Sequence[int]) -> int:
        if block[0] == 128:
            raise ValueError("file 128 is malformed")
        return block[0]

    results = map_blocks(fail_at_the_third, BLOCKS, "", mostly_python=mostly_python)
    assert [next(results), next(results)] == [0, 64]
    with pytest.raises(ValueError, match="file 128"):
        next(results)


class Clocks:
    """Stands in for `time`: of each block, part is work and the rest is waiting."""

    def __init__(self, work: float, wait: float) -> None:
        self._step, self._work, self._done = work + wait, work, 0

    def block(self, _: Sequence[int]) -> bool:
        self._done += 1
        return threading.current_thread() is threading.main_thread()

    def perf_counter(self) -> float:
        return self._done * self._step

    def thread_time(self) -> float:
        return self._done * self._work


def run_alone(monkeypatch, work: float, wait: float) -> list[bool]:
    """Whether each of some blocks ran in the thread that asked for it."""
    clocks = Clocks(work, wait)
    monkeypatch.setattr(parallel, "time", clocks)
    return list(map_blocks(clocks.block, BLOCKS[:6], "", mostly_python=True))


def test_python_code_stays_in_one_thread(monkeypatch):
    assert run_alone(monkeypatch, work=2, wait=1) == 6 * [True]


def test_threads_wait_for_a_slow_disk(monkeypatch):
    alone, *others = run_alone(monkeypatch, work=1, wait=2)
    assert alone
    assert not any(others)
