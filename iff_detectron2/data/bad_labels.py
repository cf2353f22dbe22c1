"""Images whose labels cannot be read: they end the reading of a dataset, or are left out of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Reason by image, while a dataset is read that may leave images out.
_left_out: ContextVar[dict[str, str] | None] = ContextVar("left_out", default=None)


@contextmanager
def bad_labels_left_out(left_out: dict[str, str] | None) -> Iterator[None]:
    """Let readers leave out images whose labels cannot be read, and note them.

    Args:
        left_out: gets the reason by file of the image; None ends a reading at the first.
    """
    token = _left_out.set(left_out)
    try:
        yield
    finally:
        _left_out.reset(token)


def may_leave_out() -> bool:
    """Whether the dataset that is being read may leave images out."""
    return _left_out.get() is not None


def leave_out(image: str, error: Exception) -> None:
    """Note an image that is left out, or raise the error where none may be.

    Args:
        image: file of the image.
        error: why its labels cannot be read.
    """
    left_out = _left_out.get()
    if left_out is None:
        raise error
    left_out[image] = str(error)
