"""The processes of a distributed run: those that torchrun or SLURM started, or new ones."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.engine import DEFAULT_TIMEOUT, launch
from detectron2.engine.launch import _distributed_worker
from torch.multiprocessing import ProcessExitedException

# What gloo, NCCL and the store of torch say where the other end is gone.
_LOST = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|timed out waiting|remote process",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Place:
    """The place of this process among those that another program started.

    Attributes:
        rank: number of the process among all.
        world_size: number of all processes.
        local_rank: number of the process on its machine.
        local_size: number of processes of each machine.
        address: where the first process listens, as `tcp://HOST:PORT`, or `env://`.
    """

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    address: str


def find_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return what torchrun or `srun` says about this process; None if neither started it.

    SLURM's are the variables of a step: a batch script or a shell inside of a job has none. The
    first process listens at MASTER_ADDR and MASTER_PORT, else on the first machine of the step
    at a port that follows from the number of the job.

    Raises:
        ValueError: the variables do not fit each other.
    """
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environment.keys():
        # torchrun; it listens itself, so that only it knows how to connect.
        size = int(environment["WORLD_SIZE"])
        local = int(environment.get("LOCAL_WORLD_SIZE", size))
        place = Place(
            int(environment["RANK"]), size, int(environment["LOCAL_RANK"]), local, "env://"
        )
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        size = int(environment["SLURM_STEP_NUM_TASKS"])
        machines = int(environment.get("SLURM_STEP_NUM_NODES", 1))
        host = environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"])
        port = environment.get("MASTER_PORT") or 2**15 + int(environment["SLURM_JOB_ID"]) % 2**14
        rank, local_rank = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
        if size % machines:
            raise ValueError(
                f"{size} tasks on {machines} machines: each machine needs the same number of them; "
                "use srun --ntasks-per-node"
            )
        place = Place(rank, size, local_rank, size // machines, f"tcp://{host}:{port}")
    else:
        return None
    if place.rank != place.rank // place.local_size * place.local_size + place.local_rank:
        raise ValueError(
            f"process {place.rank} is number {place.local_rank} of {place.local_size} on its "
            "machine; the processes of a machine must be numbered one after the other"
        )
    return place


def _first_host(nodes: str) -> str:
    """Return the first of `gpu[03-05,9],login`, which is gpu03."""
    match = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    if match is None:
        raise ValueError(f"cannot read SLURM_STEP_NODELIST {nodes!r}; set MASTER_ADDR")
    return match[1] + (match[2] or "")


def run_distributed(
    function: Callable[..., Any],
    args: tuple,
    *,
    processes: int,
    machines: int,
    machine_rank: int,
    address: str,
) -> None:
    """Run a function in each process of a run, as `detectron2.engine.launch` does.

    Args:
        function: what to run.
        args: its arguments.
        processes: number of processes to start on each machine; not looked at where torchrun or
            srun has started them.
        machines: number of machines.
        machine_rank: number of this one.
        address: where the first process listens, as `tcp://HOST:PORT`, or "auto".

    Raises:
        ValueError: the processes are there, and yet others are asked for.
        ChildProcessError: a process died, here or elsewhere.
    """
    place = find_place()
    if place is not None:
        if processes > 1 or machines > 1:
            raise ValueError(
                "torchrun or srun has started the processes; leave out --num-gpus and "
                "--num-machines"
            )
        if place.world_size == 1:
            return function(*args)
        machine = place.rank // place.local_size
        try:
            return _distributed_worker(
                place.local_rank,
                function,
                place.world_size,
                place.local_size,
                machine,
                place.address,
                args,
                DEFAULT_TIMEOUT,
            )
        except (RuntimeError, ConnectionError) as error:  # torch's errors of connections are both
            if not _LOST.search(str(error)):
                raise
            raise ChildProcessError(
                f"process {place.rank} of {place.world_size} lost another one, which ended before "
                f"its time ({' '.join(str(error).split())[-200:]}); --resume goes on from the last "
                "checkpoint"
            ) from error
    try:
        launch(function, processes, machines, machine_rank, address, args)
    except ProcessExitedException as error:
        how = f"exit code {error.exit_code}"
        if error.signal_name is not None:
            how = f"{error.signal_name}, " + (
                "out of memory, perhaps" if error.signal_name == signal.SIGKILL.name else "a crash"
            )
        raise ChildProcessError(
            f"process {error.error_index} of {processes} ended before its time ({how}), so the "
            "others were ended too; --resume goes on from the last checkpoint"
        ) from None
    return None
