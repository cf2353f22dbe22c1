"""Reads very many annotation files: several at a time, and only those that are new or changed."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from iopath.common.file_io import file_lock

from iff_detectron2.utils.parallel import map_blocks, split_blocks

from .annotation_table import (
    AnnotationTable,
    concatenate,
    empty_table,
    load_table,
    make_table,
    save_table,
)
from .xml_file import XMLAnnotation, read_xml

_BLOCK = 256  # files that are read, and known to be unchanged, together
_CACHE_FROM = 2000  # files; fewer are read faster than anybody notices
_SAVE_EVERY = 20.0  # seconds of reading that an interruption can cost
_VERSION = 1  # of what the cache holds

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where caches go: $IFF_DETECTRON2_CACHE, else iff_detectron2 in the user's cache folder."""
    chosen = os.getenv("IFF_DETECTRON2_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.getenv("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iff_detectron2"


def cache_path(root: Path, image_set: str) -> Path:
    """Return the cache of one list of one dataset root."""
    place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_folder() / f"{image_set}-{place}.npz"


def read_annotations(
    paths: Sequence[str], desc: str, cache: Path | None = None, *, damaged: bool = False
) -> AnnotationTable:
    """Read annotation files, in order.

    With a cache, only files are read that are new, or whose size or time of change differs from
    when they were cached. What was read is saved every 20 seconds and when reading ends, also by an
    error or an interruption, so that the next call goes on from there. Several processes that want
    the same cache wait for the first one.

    Args:
        paths: the files.
        desc: what the progress bar says.
        cache: an .npz file, see `cache_path`; fewer than 2000 files are not cached.
        damaged: let a file that cannot be read be an image of size 0 without objects.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is malformed, see `read_xml`.
    """
    table = _read_annotations(paths, desc, cache, damaged)
    unread = np.flatnonzero(table.sizes[:, 0] == 0)
    if len(unread) and not damaged:  # a cache may hold what was read with `damaged`
        raise reason_of(paths[unread[0]])
    return table


def reason_of(path: str) -> Exception:
    """Return why a file could not be read."""
    try:
        read_xml(path)
    except (OSError, ValueError) as error:
        return error
    return OSError(f"the annotation {path} has changed while it was read; try again")


def _read_annotations(
    paths: Sequence[str], desc: str, cache: Path | None, damaged: bool
) -> AnnotationTable:
    read = _read_damaged_block if damaged else _read_block
    if cache is None or len(paths) < _CACHE_FROM:
        blocks = split_blocks(paths, _BLOCK)
        return concatenate(list(map_blocks(read, blocks, desc, mostly_python=True)))
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(str(cache)))
        except OSError as error:
            _logger.warning(
                "nothing is cached, as %s cannot be written (%s); name another folder by "
                "IFF_DETECTRON2_CACHE",
                cache.parent,
                error.strerror,
            )
            return _read_annotations(paths, desc, None, damaged)
        return _read_cached(paths, desc, cache, read)


def find_unreadable(paths: Sequence[str], desc: str) -> list[tuple[str, str]]:
    """Read annotation files only to see which cannot be read.

    Returns:
        Path and reason of each file that is missing or malformed, in order.
    """
    blocks = split_blocks(paths, _BLOCK)
    return [
        bad for block in map_blocks(_bad_files, blocks, desc, mostly_python=True) for bad in block
    ]


def _read_block(paths: Sequence[str]) -> AnnotationTable:
    return make_table(map(read_xml, paths))


def _read_damaged_block(paths: Sequence[str]) -> AnnotationTable:
    return make_table(map(_read_damaged, paths))


def _read_damaged(path: str) -> XMLAnnotation:
    try:
        return read_xml(path)
    except (OSError, ValueError):
        return XMLAnnotation(0, 0, ())


def _bad_files(paths: Sequence[str]) -> list[tuple[str, str]]:
    reasons = ((path, _why_unreadable(path)) for path in paths)
    return [(path, reason) for path, reason in reasons if reason]


def _why_unreadable(path: str) -> str:
    try:
        read_xml(path)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _stat_block(paths: Sequence[str]) -> np.ndarray:
    """Time of change in ns and size of each file, [N, 2]; -1 for files that cannot be looked at."""
    return np.array([_stat(path) for path in paths], dtype=np.int64).reshape(-1, 2)


def _stat(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1  # reading it will say what is wrong
    return status.st_mtime_ns, status.st_size


def _read_cached(
    paths: Sequence[str],
    desc: str,
    cache: Path,
    read: Callable[[Sequence[str]], AnnotationTable],
) -> AnnotationTable:
    blocks = split_blocks(paths, _BLOCK)
    key = _key(paths)
    stats = list(map_blocks(_stat_block, blocks, desc, quiet=True, mostly_python=True))
    tables = _load(cache, key, stats)
    missing = [number for number, table in enumerate(tables) if table is None]
    if not missing:
        return concatenate([table for table in tables if table is not None])
    saved = time.monotonic()
    complete = False
    try:
        unread = [blocks[number] for number in missing]
        reading = map_blocks(read, unread, desc, mostly_python=True)
        for number, table in zip(missing, reading, strict=True):
            tables[number] = table
            if time.monotonic() - saved > _SAVE_EVERY:
                _save(cache, key, stats, tables)
                saved = time.monotonic()
        complete = True
    finally:
        result = _save(cache, key, stats, tables)
        if not complete and cache.is_file():
            _logger.warning("%s holds what was read so far; the next start goes on there", cache)
    return result


def _key(paths: Sequence[str]) -> np.ndarray:
    """Return what a cache was made from: the form of the cache and the files in their order."""
    digest = hashlib.sha256(f"{_VERSION} {_BLOCK}\n".encode())
    digest.update(os.fsencode("\n".join(paths)))
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _load(cache: Path, key: np.ndarray, stats: list[np.ndarray]) -> list[AnnotationTable | None]:
    """Return the cached table of each block, None where it has to be read; says why that is."""
    nothing: list[AnnotationTable | None] = [None] * len(stats)
    try:
        table, extra = load_table(cache, ("key", "done", "stats"))
    except FileNotFoundError:
        return nothing
    except ValueError as error:
        _logger.warning("%s; the annotation files are read anew", error)
        return nothing
    if not np.array_equal(extra["key"], key):
        _logger.warning("%s was made from another list; the annotation files are read anew", cache)
        return nothing
    if (len(table), extra["done"].shape) != (sum(map(len, stats)), (len(stats),)) or extra[
        "stats"
    ].shape != (len(table), 2):
        _logger.warning("%s is damaged; the annotation files are read anew", cache)
        return nothing
    starts = table.starts()
    tables = list(nothing)
    changed = 0
    for number, current in enumerate(stats):
        first = number * _BLOCK
        last = first + len(current)
        if not extra["done"][number]:
            continue
        if not np.array_equal(extra["stats"][first:last], current):
            changed += 1
            continue
        tables[number] = table.rows(first, last, starts)
    if changed:
        _logger.warning(
            "annotation files changed since %s was written; those near them are read anew "
            "(%d of %d blocks of %d files)",
            cache,
            changed,
            len(stats),
            _BLOCK,
        )
    return tables


def _save(
    cache: Path, key: np.ndarray, stats: list[np.ndarray], tables: list[AnnotationTable | None]
) -> AnnotationTable:
    """Write what is known and return it."""
    table = concatenate(
        [
            empty_table(len(current)) if known is None else known
            for known, current in zip(tables, stats, strict=True)
        ]
    )
    done = np.array([known is not None for known in tables])
    try:
        save_table(cache, table, {"key": key, "done": done, "stats": np.concatenate(stats)})
    except OSError as error:  # a full disk; the annotations are there all the same
        _logger.warning("%s cannot be written: %s", cache, error.strerror)
    return table
