"""One process at a time writes into a folder; the system lets go of it when that process ends."""

from __future__ import annotations

import atexit
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import portalocker

LOCK_FILE = ".lock"

_held: dict[Path, IO[str]] = {}


@contextmanager
def owned_folder(folder: str | Path) -> Iterator[None]:
    """Own a folder, which is made, for a block.

    Raises:
        BlockingIOError: another process owns it.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        yield  # this process owns it already
        return
    own_folder(folder)
    try:
        yield
    finally:
        _release(folder)


def own_folder(folder: str | Path) -> None:
    """Own a folder, which is made, until this process ends.

    Raises:
        BlockingIOError: another process owns it.
    """
    folder = Path(folder).resolve()
    if folder not in _held:
        folder.mkdir(parents=True, exist_ok=True)
        _held[folder] = _lock(folder / LOCK_FILE)


def _lock(path: Path) -> IO[str]:
    while True:
        stream = path.open("a+", encoding="utf-8", errors="replace")
        try:
            portalocker.lock(stream, portalocker.LOCK_EX | portalocker.LOCK_NB)
        except portalocker.LockException:
            stream.seek(0)
            owner = stream.read(200).strip() or "its name is not known yet"
            stream.close()
            raise BlockingIOError(
                f"{path.parent} is in use by another process ({owner}); wait for its end, or name "
                "another folder"
            ) from None
        # Its last owner may have removed the file between opening and locking.
        if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}\n")
            stream.flush()
            return stream
        stream.close()


def _release(folder: Path) -> None:
    stream = _held.pop(folder)
    (folder / LOCK_FILE).unlink(missing_ok=True)
    stream.close()


@atexit.register
def _release_all() -> None:
    for folder in list(_held):
        _release(folder)


def _forget() -> None:
    """Leave the locks to the parent: they would outlive it in a worker that it has forked."""
    for stream in _held.values():
        stream.close()
    _held.clear()


os.register_at_fork(after_in_child=_forget)
