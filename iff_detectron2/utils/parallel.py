"""One function over very many files, several at a time where that is faster."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

# More than there are cores: they hide the latency of a network disk.
_NUM_THREADS = 4
_PROGRESS_FROM = 2000


def usable_cores() -> int:
    """Return the number of cores; containers and job schedulers often grant fewer than the machine
    has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_blocks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut a sequence into pieces of `size` and a rest."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def map_blocks(
    function: Callable[[Sequence[Item]], Result],
    blocks: Sequence[Sequence[Item]],
    desc: str,
    *,
    quiet: bool = False,
    mostly_python: bool = False,
) -> Iterator[Result]:
    """Apply a function to every block, in order, in bounded memory.

    Args:
        function: gets one block; may run in several threads.
        blocks: what to go through, see `split_blocks`.
        desc: what the progress bar over the items says; fewer than 2000 have none.
        quiet: no progress bar.
        mostly_python: the function does little that releases the interpreter's lock, so that
            threads would only hold each other up: use them as soon as most time goes by in
            waiting for the disk.

    Raises:
        Whatever `function` raises; blocks that have not begun are left out.
    """
    total = sum(map(len, blocks))
    with tqdm(total=total, desc=desc, disable=quiet or total < _PROGRESS_FROM) as progress:
        remaining = deque(blocks)
        results = _map_in_threads(function, remaining)
        if mostly_python:
            results = chain(_map_until_waiting(function, remaining), results)
        for result, size in results:
            yield result
            progress.update(size)


def _map_until_waiting(
    function: Callable[[Sequence[Item]], Result], remaining: deque[Sequence[Item]]
) -> Iterator[tuple[Result, int]]:
    """Take blocks from the front, as long as the processor works for at least half of the time."""
    wall = work = 0.0
    while remaining and wall <= 2 * work:
        block = remaining.popleft()
        start, start_work = time.perf_counter(), time.thread_time()
        result = function(block)
        wall += time.perf_counter() - start
        work += time.thread_time() - start_work
        yield result, len(block)


def _map_in_threads(
    function: Callable[[Sequence[Item]], Result], remaining: deque[Sequence[Item]]
) -> Iterator[tuple[Result, int]]:
    pool = ThreadPoolExecutor(_NUM_THREADS)
    running: deque[tuple[Future, int]] = deque()
    try:
        while remaining or running:
            while remaining and len(running) < 4 * _NUM_THREADS:
                block = remaining.popleft()
                running.append((pool.submit(function, block), len(block)))
            future, size = running.popleft()
            yield future.result(), size
    finally:
        pool.shutdown(cancel_futures=True)
