"""Trainings in processes of their own, to be killed and compared."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
INSTANT = ROOT / "configs" / "quick_schedules" / "iff_net_C_instant.yaml"
# Metrics that tell of the time that it took, not of what was computed.
CLOCK = {"time", "data_time", "eta_seconds", "rank_data_time"}

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["iff_detectron2.engine"])


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
        process = _processes.Process(target=_train, args=(argv, environment | own, log, die_after))
        process.start()
        ranks.append(process)
    return ranks


def _train(argv: list[str], environment: dict[str, str], log: Path, die_after: str) -> None:
    """Train; `die_after` names a checkpoint ("model_0000005") or a step ("step 4")."""
    os.environ.update(environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    torch.set_num_threads(1)
    from iff_detectron2.engine import VideoTrainer, checkpoint, launch_from_command_line

    def dying(function: Callable, name_of: Callable) -> Callable:
        def call(self, *args, **kwargs):
            result = function(self, *args, **kwargs)
            if name_of(self, *args) == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if die_after:
        saver = checkpoint.VideoCheckpointer
        saver.save = dying(saver.save, lambda self, name: name)
        VideoTrainer.run_step = dying(VideoTrainer.run_step, lambda self: f"step {self.iter}")
    launch_from_command_line(argv=argv)


def wait(ranks: list[ForkServerProcess]) -> list[int | None]:
    """Exit codes of the processes."""
    for process in ranks:
        process.join(300)
    return [process.exitcode for process in ranks]


def kill(ranks: list[ForkServerProcess]) -> None:
    for process in ranks:
        process.kill()
    wait(ranks)


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
    saved = "inference/moving_shapes_val/predictions.json"
    assert (one / saved).read_bytes() == (other / saved).read_bytes()
