"""File names in a dataset's files stay below the dataset's root."""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def check_relative(name: str, place: str) -> str:
    """Return a path that a dataset names, if it leads below the dataset's root.

    Args:
        name: path, also with the backslashes of Windows.
        place: file, and line or record, for messages.

    Returns:
        The path with forward slashes.

    Raises:
        ValueError: the path is empty, absolute, has `..`, or begins with a drive or a protocol.
    """
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z][\w+.-]*:", name)
    if outside or not path.parts or re.search("[\0\ud800-\udfff]", name):
        raise ValueError(
            f"{place}: {name!r} must be a relative path without '..', "
            "because every file of a dataset lies under its root"
        )
    return name
