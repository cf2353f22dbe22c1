"""One process at a time owns a folder, and nobody does when it has ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from folder_owner import start_owner

from iff_detectron2.utils.folder_lock import owned_folder


def test_the_second_process_gets_one_sentence(tmp_path):
    process = start_owner(tmp_path / "run")
    try:
        with (
            pytest.raises(
                BlockingIOError, match=rf"in use by another process \(process {process.pid}"
            ),
            owned_folder(tmp_path / "run"),
        ):
            pass
    finally:
        process.kill()
        process.communicate()
    with owned_folder(tmp_path / "run"):  # the system let go of it
        assert (tmp_path / "run/.lock").read_text().startswith(f"process {os.getpid()} on")
        with owned_folder(tmp_path / "run"):
            pass
        assert (tmp_path / "run/.lock").exists()
    assert not (tmp_path / "run/.lock").exists()


def test_a_forked_worker_does_not_keep_the_folder(tmp_path):
    """A loader's worker lives on for seconds when its parent is killed."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        with owned_folder(tmp_path):
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
            worker.start()
            os.write(writer, f"{worker.pid}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
    worker = int(os.read(reader, 20))
    os.waitpid(parent, 0)
    try:
        os.kill(worker, 0)
        with owned_folder(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def _count(folder: Path, times: int) -> None:
    file = folder / "count"
    for _ in range(times):
        while True:
            try:
                with owned_folder(folder):
                    number = int(file.read_text())
                    time.sleep(0.0005)
                    file.write_text(str(number + 1))
                break
            except BlockingIOError:
                time.sleep(0.0005)


def test_nobody_shares_it_while_the_lock_file_comes_and_goes(tmp_path):
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(tmp_path, 100)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "300"
