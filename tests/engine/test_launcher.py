"""Runs of several processes, started in each of the ways that people start them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import training_process as training

from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2.engine.launcher import Place, find_place, run_distributed

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
# As `srun --nodes 2 --ntasks-per-node 2` sets them in its last task.
SLURM = {
    **{"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3"},
    **{"SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_JOB_ID": "1000000"},
}


def test_places_by_torchrun_and_slurm():
    assert find_place(TORCHRUN) == Place(3, 4, 1, 2, "env://")
    # 1000000 % 16384 = 576
    assert find_place(SLURM) == Place(3, 4, 1, 2, "tcp://gpu03:33344")
    own = {**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    assert find_place(own) == Place(3, 4, 1, 2, "tcp://10.0.0.1:29500")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        # A shell or a batch script inside of a job: nothing was started yet.
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "5"},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_nobody_started_the_processes(environment):
    assert find_place(environment) is None


@pytest.mark.parametrize(
    ("nodes", "host"), [("a", "a"), ("a,b", "a"), ("n-1[7,9],x", "n-17"), ("n[001-100]", "n001")]
)
def test_first_machine_of_a_list(nodes, host):
    place = find_place({**SLURM, "SLURM_STEP_NODELIST": nodes})
    assert place is not None
    assert place.address == f"tcp://{host}:33344"


def test_unequal_machines_and_scattered_ranks_are_refused():
    with pytest.raises(ValueError, match="3 tasks on 2 machines"):
        find_place({**SLURM, "SLURM_STEP_NUM_TASKS": "3"})
    with pytest.raises(ValueError, match="numbered one after the other"):
        find_place({**SLURM, "SLURM_LOCALID": "0"})


def test_processes_that_are_there_are_not_started_again(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="leave out --num-gpus"):
        run_distributed(print, (), processes=2, machines=1, machine_rank=0, address="auto")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Folders with a set of so many validation videos of 2 frames."""
    folder = tmp_path_factory.mktemp("datasets")

    def make(num_videos: int) -> Path:
        generate_moving_shapes(
            folder / str(num_videos) / "moving_shapes",
            num_train_videos=2,
            num_val_videos=num_videos,
            num_frames=4,
            num_val_frames=2,
            size=(96, 64),
            num_workers=1,
            progress=False,
        )
        return folder / str(num_videos)

    return make


@pytest.fixture(scope="module")
def weights(datasets, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("weights") / "run"
    assert training.wait(training.start(output, datasets(1))) == [0]
    return output / "model_final.pth"


def saved(output: Path, name: str) -> bytes:
    return (output / "inference/moving_shapes_val" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("num_videos", [1, 2, 3, 5])
def test_evaluation_is_the_same_by_any_number_of_processes(datasets, weights, tmp_path, num_videos):
    args = ["--eval-only", "MODEL.WEIGHTS", str(weights)]
    for world in (1, 2, 3):
        ranks = training.start(tmp_path / str(world), datasets(num_videos), *args, world=world)
        assert training.wait(ranks) == [0] * world
    for name in ("predictions.json", "predictions.txt", "results.json"):
        alone = saved(tmp_path / "1", name)
        assert len(alone) > 100
        assert saved(tmp_path / "2", name) == alone
        assert saved(tmp_path / "3", name) == alone


@pytest.mark.slow
def test_first_gradients_of_two_processes_are_those_of_one(datasets, tmp_path):
    one_step = [
        *("SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MOMENTUM", "0.0"),
        *("SOLVER.WEIGHT_DECAY", "0.0", "SOLVER.BASE_LR", "1.0", "DATALOADER.NUM_WORKERS", "0"),
        *("SOLVER.WARMUP_ITERS", "0", "SOLVER.CLIP_GRADIENTS.ENABLED", "False"),
        # Neither statistics of the batch nor a random choice of regions.
        *("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000"),
        *("TEST.EVAL_PERIOD", "0"),
    ]
    gradients = []
    for world in (1, 2):
        output = tmp_path / str(world)
        ranks = training.start(output, datasets(1), *one_step, world=world)
        assert training.wait(ranks) == [0] * world
        gradients.append(torch.load(output / "model_final.pth", weights_only=True)["model"])
    before = tmp_path / "0"
    args = (*one_step, "SOLVER.BASE_LR", "1e-30")
    assert training.wait(training.start(before, datasets(1), *args)) == [0]
    first = torch.load(before / "model_final.pth", weights_only=True)["model"]
    moved = 0.0
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=0, atol=2e-5, msg=name)
        moved = max(moved, (value - first[name]).abs().max().item())
    assert moved > 1e-2


def train_net(output: Path, datasets: Path, command: list[str], *args: str, **environment: str):
    return subprocess.Popen(
        [
            *(*command, "train_net.py", "--config-file", str(training.INSTANT), *args),
            *("DATALOADER.NUM_WORKERS", "0", "TEST.EVAL_PERIOD", "0", "OUTPUT_DIR", str(output)),
        ],
        cwd=training.ROOT,
        env={
            **os.environ,
            **{"DETECTRON2_DATASETS": str(datasets), "CUDA_VISIBLE_DEVICES": ""},
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_training(log: Path) -> None:
    for _ in range(3000):
        if log.is_file() and "Starting training" in log.read_text():
            return
        time.sleep(0.1)
    raise TimeoutError(f"{log} does not say that the training began")


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def assert_one_run_of_two(output: Path, processes: list[subprocess.Popen]) -> None:
    for process in processes:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text[-3000:]
    assert "World size: 2" in (output / "log.txt").read_text()
    assert (output / "log.txt.rank1").is_file()
    assert (output / "model_final.pth").is_file()
    steps = [json.loads(line)["iteration"] for line in (output / "metrics.json").open()]
    assert len(steps) == len(set(steps))


@pytest.mark.slow
def test_started_by_torchrun(datasets, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    port = ["--master-port", free_port()]
    run = train_net(tmp_path, datasets(2), [*command, *port])
    assert_one_run_of_two(tmp_path, [run])


def two_by_srun(output: Path, datasets: Path, *args: str) -> list[subprocess.Popen]:
    port = free_port()
    return [
        train_net(
            *(output, datasets, [sys.executable], *args),
            **{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_ID": "1"},
            **{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            **{"SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": port},
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_started_by_srun(datasets, tmp_path):
    assert_one_run_of_two(tmp_path, two_by_srun(tmp_path, datasets(2)))


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_processes_that_nobody_watches_notice_a_dead_one(datasets, tmp_path, dead):
    args = ("MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "100000")
    runs = two_by_srun(tmp_path, datasets(2), *args)
    wait_for_training(tmp_path / "log.txt.rank1")
    runs[dead].kill()
    text, _ = runs[1 - dead].communicate(timeout=120)
    runs[dead].communicate()
    assert runs[1 - dead].returncode == 2, text[-3000:]
    assert f"process {1 - dead} of 2 lost another one" in text.splitlines()[-1]


@pytest.mark.slow
def test_two_machines_on_one(datasets, tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    runs = [
        train_net(
            *(tmp_path, datasets(2), [sys.executable]),
            *("--num-machines", "2", "--machine-rank", str(rank), "--dist-url", url),
        )
        for rank in range(2)
    ]
    assert_one_run_of_two(tmp_path, runs)


@pytest.mark.slow
def test_a_dead_process_ends_the_run_with_a_sentence(datasets, tmp_path):
    run = train_net(
        *(tmp_path, datasets(2), [sys.executable], "--num-gpus", "2", "--dist-url", "auto"),
        *("MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "100000"),
    )
    wait_for_training(tmp_path / "log.txt.rank1")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    trainers = [c for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]
    os.kill(int(trainers[1]), signal.SIGKILL)
    text, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "process 1 of 2 ended before its time (SIGKILL" in text
