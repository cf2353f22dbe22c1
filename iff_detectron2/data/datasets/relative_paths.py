"""File names in a dataset's files stay below the dataset's root."""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def check_relative(name: str, place: str) -> str:
    """Return a path that a dataset names, if it leads below the dataset's root.

    Args:
        name: path with forward slashes.
        place: file, and line or record, for messages.

    Raises:
        ValueError: the path is empty, absolute, has `..` or a backslash, or begins with a drive
            or a protocol.
    """
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z][\w+.-]*:", name)
    if outside or "\\" in name or "\0" in name or not path.parts:
        raise ValueError(
            f"{place}: {name!r} must be a relative path without '..', "
            "because every file of a dataset lies under its root"
        )
    return name
