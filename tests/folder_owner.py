"""Another process that owns a folder, as a second run would find it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWNER = """
import sys, time
from iff_detectron2.utils.folder_lock import own_folder
own_folder(sys.argv[1])
print("mine", flush=True)
time.sleep(120)
"""


def start_owner(folder: Path) -> subprocess.Popen:
    """Start a process, and wait until it owns the folder; it ends after two minutes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


@contextmanager
def owned_by_another(folder: Path) -> Iterator[subprocess.Popen]:
    """Let another process own the folder for as long as the block lasts."""
    with start_owner(folder) as process:
        try:
            yield process
        finally:
            process.kill()
