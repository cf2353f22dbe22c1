"""One function over very many files, several at a time where that is faster."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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

        def with_size(block: Sequence[Item]) -> tuple[Result, int]:
            return function(block), len(block)

        results = map_in_order(with_size, _taken(remaining), _NUM_THREADS)
        if mostly_python:
            results = chain(_map_until_waiting(function, remaining), results)
        for result, size in results:
            yield result
            progress.update(size)


def _taken(remaining: deque[Item]) -> Iterator[Item]:
    while remaining:
        yield remaining.popleft()


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


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int
) -> Iterator[Result]:
    """Apply a function to every item in threads, and yield the results in order.

    Args:
        function: may run in several threads.
        items: taken as they are needed: at most twice as many as there are threads are waiting or
            at work.
        num_threads: how many.

    Raises:
        Whatever `function` or `items` raise; items that have not begun are left out.
    """
    pool = ThreadPoolExecutor(num_threads)
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) >= 2 * num_threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
