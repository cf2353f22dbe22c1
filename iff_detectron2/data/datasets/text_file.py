"""Text of a dataset's files: decoded and bounded here, so that every error names the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

MAX_INTEGER = 2**31 - 1
MAX_FRAMES = 10**7  # of a video; more is a slip of the file, and would fill the memory


def read_bytes(path: Path, what: str) -> bytes:
    """Return the content of a file.

    Args:
        path: the file.
        what: what it is and where it should be, for the message if it is missing.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; {what}") from None


def read_text(path: Path, what: str) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    data = read_bytes(path, what)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 (byte {error.start}); save it in that encoding"
        ) from None


def lines_of(path: Path, what: str) -> Iterator[tuple[str, str]]:
    """Yield the place (file and line number) and the text of each line that is not blank.

    Raises:
        FileNotFoundError, ValueError: see `read_text`.
    """
    for number, line in enumerate(read_text(path, what).splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def to_number(text: str, what: str, place: str) -> float:
    """Read a finite number.

    Args:
        text: what the file holds.
        what: its name, for errors.
        place: file and line, for errors.

    Raises:
        ValueError: it is anything else, or beyond 2**31.
    """
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{place}: {what} must be a number, got {text[:40]!r}") from None
    if not math.isfinite(value) or abs(value) > MAX_INTEGER:
        raise ValueError(f"{place}: {what} must be finite and below 2**31, got {text[:40]!r}")
    return value


def to_integer(text: str, what: str, place: str, minimum: int = -1) -> int:
    """Read an integer; `3.0` counts as 3.

    Args:
        text: what the file holds.
        what: its name, for errors.
        place: file and line, for errors.
        minimum: least value that is allowed.

    Raises:
        ValueError: it is anything else, or below the minimum.
    """
    value = to_number(text, what, place)
    if value != int(value):
        raise ValueError(f"{place}: {what} must be an integer, got {text[:40]!r}")
    if value < minimum:
        raise ValueError(f"{place}: {what} must be at least {minimum}, got {text[:40]!r}")
    return int(value)
