from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from iff_detectron2.video.read_ahead import read_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read ahead"]


def test_items_keep_their_order_and_come_from_another_thread():
    names = set()

    def source():
        for number in range(50):
            names.add(threading.current_thread().name)
            yield number

    assert list(read_ahead(source())) == list(range(50))
    assert names == {"read ahead"}
    assert not threads()


def test_no_more_than_the_depth_wait():
    drawn = []

    def source():
        for number in range(100):
            drawn.append(number)
            yield number

    with closing(read_ahead(source(), depth=3)) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 5
        while len(drawn) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        # One is taken, three wait, one is held by the thread.
        assert len(drawn) == 5
    assert not threads()


def test_errors_come_in_their_place():
    def source():
        yield 1
        yield 2
        raise OSError("broken")

    ahead = read_ahead(source())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="broken"):
        next(ahead)
    assert not threads()


def test_closing_early_ends_the_thread_before_the_source():
    closed = []

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    with closing(source()) as items, closing(read_ahead(items)) as ahead:
        assert next(ahead) == 0
    assert closed == ["MainThread"]
    assert not threads()
