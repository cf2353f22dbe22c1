"""Trainings in processes of their own, to be killed and compared."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
INSTANT = ROOT / "configs" / "quick_schedules" / "iff_net_C_instant.yaml"
# Metrics that tell of the time that it took, not of what was computed.
CLOCK = {"time", "data_time", "eta_seconds", "rank_data_time"}

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["iff_detectron2.engine"])


def get_ready() -> None:
    """Let the server of processes import what they need: else the first run is the longest."""
    process = _start(os.getpid)
    process.join()


def start(
    output: Path, datasets: Path, *args: str, world: int = 1, die_after: str = ""
) -> list[ForkServerProcess]:
    """Start train_net.py as torchrun does, one process a rank; `die_after`: see `_train`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "DETECTRON2_DATASETS": str(datasets),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    if world > 1:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    argv = ["--config-file", str(INSTANT), *args, "OUTPUT_DIR", str(output)]
    ranks = []
    for rank in range(world):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"} if world > 1 else {}
        log = output.with_name(f"{output.name}.{rank}.txt")
        ranks.append(_start(_train, argv, environment | own, log, die_after))
    return ranks


def start_adapting(
    output: Path, words: Sequence[str], opts: Sequence[str], *, die_after: str = ""
) -> list[ForkServerProcess]:
    """Start `iff-detectron2 adapt`; `die_after`: see `_prepare`."""
    argv = ["adapt", *words, "--output", str(output), *opts]
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    log = output.with_name(f"{output.name}.0.txt")
    return [_start(_adapt, argv, environment, log, die_after)]


def _start(target: Callable, *args: Any) -> ForkServerProcess:
    process = _processes.Process(target=target, args=args)
    process.start()
    return process


def _train(argv: list[str], environment: dict[str, str], log: Path, die_after: str) -> None:
    _prepare(environment, log, die_after)
    from iff_detectron2.engine import launch_from_command_line

    launch_from_command_line(argv=argv)


def _adapt(argv: list[str], environment: dict[str, str], log: Path, die_after: str) -> None:
    _prepare(environment, log, die_after)
    from iff_detectron2_cli.main import main

    sys.exit(main(argv))


def _prepare(environment: dict[str, str], log: Path, die_after: str) -> None:
    """Get ready in a process of its own.

    Args:
        environment: variables to set.
        log: where output goes.
        die_after: a checkpoint ("model_0000005") or a step ("step 4"); the second of a name is
            "model_final again".
    """
    os.environ.update(environment)
    # A child of a server of processes would make its loader's workers by that server's kind, too:
    # they import everything anew, and outlive a trainer that is killed.
    multiprocessing.set_start_method(None, force=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    torch.set_num_threads(1)
    from iff_detectron2.engine import VideoTrainer, checkpoint

    seen: set[str] = set()

    def dying(function: Callable, name_of: Callable) -> Callable:
        def call(self, *args, **kwargs):
            result = function(self, *args, **kwargs)
            name = name_of(self, *args)
            if (f"{name} again" if name in seen else name) == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.add(name)
            return result

        return call

    if die_after:
        saver = checkpoint.VideoCheckpointer
        saver.save = dying(saver.save, lambda self, name: name)
        saver.save_model = dying(saver.save_model, lambda self, name: name)
        VideoTrainer.run_step = dying(VideoTrainer.run_step, lambda self: f"step {self.iter}")


def wait_until(ranks: list[ForkServerProcess], output: Path, sight: str) -> None:
    """Return when a training that was started has left a file, or said a sentence, or has ended."""
    log = output.with_name(f"{output.name}.0.txt")
    while ranks[0].is_alive():
        if (output / sight).exists() or (log.exists() and sight in log.read_text()):
            return
        time.sleep(0.02)


def wait(ranks: list[ForkServerProcess]) -> list[int | None]:
    """Exit codes of the processes."""
    for process in ranks:
        process.join(300)
    return [process.exitcode for process in ranks]


def kill(ranks: list[ForkServerProcess]) -> list[int | None]:
    """Kill the processes and return their exit codes, which tell whether any had ended before."""
    for process in ranks:
        process.kill()
    return wait(ranks)


def _leaves(value, name=""):
    """Tensors and other values of a checkpoint by name, but for those of the clock."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in CLOCK:
                yield from _leaves(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}[{number}]")
    else:
        yield name, value


def metrics(output: Path) -> list[dict]:
    """Lines of metrics.json, without the clock's."""
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """Fail unless weights, optimizer, metrics and evaluation are equal to the last bit."""
    assert_same_training(one, other)
    saved = "inference/moving_shapes_val/predictions.json"
    assert (one / saved).read_bytes() == (other / saved).read_bytes()


def assert_same_training(one: Path, other: Path) -> None:
    """Fail unless weights, optimizer and metrics are equal to the last bit."""
    a, b = (
        dict(_leaves(torch.load(folder / "model_final.pth", weights_only=True)))
        for folder in (one, other)
    )
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), name
        else:
            assert repr(value) == repr(b[name]), name  # NaN is NaN
    assert repr(metrics(one)) == repr(metrics(other))
