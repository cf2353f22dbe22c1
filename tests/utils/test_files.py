"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from iff_detectron2.utils.files import open_atomically

HOST = re.sub(r"\W", "_", platform.node())


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(TypeError), open_atomically(path) as stream:
        stream.write(b"half")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_leftovers_of_the_dead_are_removed_and_no_others(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        f".a.txt.{HOST}.{dead.pid}.tmp": False,
        f".a.txt.{HOST}.{os.getppid()}.tmp": True,  # still at work
        f".a.txt.{HOST}x.{dead.pid}.tmp": True,  # another machine's
        f".b.txt.{HOST}.{dead.pid}.tmp": True,  # another file's
        ".a.txt.mine.tmp": True,
    }
    for name in names:
        (tmp_path / name).write_text("left")
    with open_atomically(tmp_path / "a.txt") as stream:
        stream.write("new")
    assert {name: (tmp_path / name).exists() for name in names} == names
    assert (tmp_path / "a.txt").read_text() == "new"


FULL_DISK = """
import resource, signal, sys
from iff_detectron2.utils.files import open_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with open_atomically(sys.argv[1], binary=sys.argv[2] == "torch") as stream:
    if sys.argv[2] == "torch":
        import torch
        torch.save(torch.zeros(10_000), stream)
    else:
        stream.write("x" * 100_000)
"""


@pytest.mark.parametrize("what", ["text", "torch"])
def test_a_full_disk_names_the_file(tmp_path, what):
    path = tmp_path / "big.bin"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), what],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "cannot write" in run.stderr.splitlines()[-1]
    assert "big.bin" in run.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
