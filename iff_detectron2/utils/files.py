"""Writing of files that are whole or not there."""

from __future__ import annotations

import errno
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_HOST = re.sub(r"\W", "_", platform.node()) or "host"


@contextmanager
def open_atomically(path: str | Path, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file, UTF-8 text or binary, that appears under its name when it is complete.

    What a process that was killed left of an earlier attempt is removed.

    Raises:
        OSError: it cannot be written, as on a full disk; the message names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
    try:
        with temporary.open(*(("wb",) if binary else ("w", -1, "utf-8"))) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # else a machine that fails may keep the name alone
        os.replace(temporary, path)
    except Exception as error:
        # torch.save fails anew when it closes what it could not write.
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in _FULL:
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, f"cannot write: {cause.strerror}", str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove unfinished versions of a file that processes of this machine left when they died."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{_HOST}\.(\d+)\.tmp")
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match is not None and not _is_running(int(match[1])):
            (path.parent / name).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
