"""Decoding on a thread of its own, some frames ahead of who works with them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int = 4) -> Generator[Item, None, None]:
    """Yield items in their order, drawn from their source on another thread.

    Close it before the source; then the thread has ended.

    Args:
        items: used by that thread alone as long as this is open.
        depth: most items that wait; one more is in work.

    Raises:
        Whatever drawing an item raises, in its place.
    """
    waiting: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    free = threading.Semaphore(depth)
    closed = threading.Event()

    def work() -> None:
        try:
            for item in items:
                free.acquire()
                if closed.is_set():
                    return
                waiting.put(("item", item))
        # Whatever it is, it belongs to the reader, who gets it in the order of the items.
        except BaseException as error:
            waiting.put(("error", error))
        else:
            waiting.put(("end", None))

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            free.release()
            yield value
    finally:
        closed.set()
        free.release()
        thread.join()
