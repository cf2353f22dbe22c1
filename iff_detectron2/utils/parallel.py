"""One function over very many files, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

# Opening files gives the others time: more threads hide the latency of a network disk.
_NUM_THREADS = 4
_PROGRESS_FROM = 2000


def split_blocks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut a sequence into pieces of `size` and a rest."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def map_blocks(
    function: Callable[[Sequence[Item]], Result],
    blocks: Sequence[Sequence[Item]],
    desc: str,
    *,
    quiet: bool = False,
) -> Iterator[Result]:
    """Apply a function to every block, in order, in bounded memory.

    Args:
        function: gets one block; runs in threads.
        blocks: what to go through, see `split_blocks`.
        desc: what the progress bar over the items says; fewer than 2000 have none.
        quiet: no progress bar.

    Raises:
        Whatever `function` raises; blocks that have not begun are left out.
    """
    total = sum(map(len, blocks))
    pool = ThreadPoolExecutor(_NUM_THREADS)
    running: deque[tuple[Future, int]] = deque()
    try:
        with tqdm(total=total, desc=desc, disable=quiet or total < _PROGRESS_FROM) as progress:
            for block in blocks:
                running.append((pool.submit(function, block), len(block)))
                if len(running) < 4 * _NUM_THREADS:
                    continue
                future, size = running.popleft()
                yield future.result()
                progress.update(size)
            for future, size in running:
                yield future.result()
                progress.update(size)
    finally:
        pool.shutdown(cancel_futures=True)
