"""The command line as a user types it, on a small generated set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from iff_detectron2.data.moving_shapes import generate_moving_shapes

ROOT = Path(__file__).parents[1]
INSTANT = ROOT / "configs" / "quick_schedules" / "iff_net_C_instant.yaml"

pytestmark = pytest.mark.slow


def make_set(folder: Path, num_val_videos: int) -> Path:
    generate_moving_shapes(
        folder / "moving_shapes",
        num_train_videos=2,
        num_val_videos=num_val_videos,
        num_frames=6,
        num_workers=1,
        progress=False,
    )
    return folder


def train_net(datasets: Path, output: Path, *args: str) -> str:
    result = subprocess.run(
        [
            *(sys.executable, "train_net.py", "--config-file", str(INSTANT)),
            *(*args, "OUTPUT_DIR", str(output)),
        ],
        cwd=ROOT,
        # Several CPU processes need a machine whose GPUs are out of sight.
        env={**os.environ, "DETECTRON2_DATASETS": str(datasets), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def saved(output: Path, name: str):
    return json.loads((output / "inference" / "moving_shapes_val" / name).read_text())


def results(output: Path) -> dict:
    return saved(output, "results.json")


def assert_same_evaluation(one: Path, other: Path) -> None:
    assert results(one) == results(other)
    a, b = saved(one, "predictions.json"), saved(other, "predictions.json")
    assert len(a) > 100
    assert [(d["image_id"], d["category_id"]) for d in a] == [
        (d["image_id"], d["category_id"]) for d in b
    ]
    np.testing.assert_allclose([d["bbox"] for d in a], [d["bbox"] for d in b], atol=1e-3)
    np.testing.assert_allclose([d["score"] for d in a], [d["score"] for d in b], atol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    datasets = make_set(tmp_path_factory.mktemp("datasets"), num_val_videos=2)
    output = tmp_path_factory.mktemp("instant")
    train_net(datasets, output)
    return datasets, output


def test_two_iterations_and_an_evaluation(trained):
    _, output = trained
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = {"loss_trl", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert losses <= set().union(*rows)
    assert any("bbox/mAP50" in row for row in rows)
    assert list(output.glob("events.out.tfevents.*"))
    metrics = results(output)["bbox"]
    assert {"mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast", "AP50-ringed_disc"} <= set(metrics)


def test_evaluating_the_checkpoint_gives_the_same_numbers(trained, tmp_path):
    datasets, output = trained
    weights = str(output / "model_final.pth")
    train_net(datasets, tmp_path, "--eval-only", "MODEL.WEIGHTS", weights)
    assert_same_evaluation(tmp_path, output)


def test_resuming_goes_on_where_training_stopped(trained, tmp_path):
    datasets, _ = trained
    train_net(datasets, tmp_path, "SOLVER.CHECKPOINT_PERIOD", "1")
    train_net(datasets, tmp_path, "--resume", "SOLVER.MAX_ITER", "3")
    checkpoint = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert checkpoint["iteration"] == 2
    log = (tmp_path / "log.txt").read_text()
    assert log.count("Starting training from iteration 0") == 1
    assert log.count("Starting training from iteration 2") == 1


@pytest.mark.parametrize("num_videos", [1, 2, 5])
def test_two_processes_evaluate_to_the_numbers_of_one(tmp_path, num_videos):
    datasets = make_set(tmp_path / "datasets", num_videos)
    together, alone = tmp_path / "together", tmp_path / "alone"
    train_net(datasets, together, "--num-gpus", "2", "--dist-url", "auto", "MODEL.DEVICE", "cpu")
    weights = str(together / "model_final.pth")
    train_net(datasets, alone, "--eval-only", "MODEL.WEIGHTS", weights)
    assert results(together)["num_frames"] == num_videos * 7
    assert_same_evaluation(together, alone)


def test_wrong_key_is_named(tmp_path):
    result = subprocess.run(
        [sys.executable, "train_net.py", "--config-file", str(INSTANT), "MODEL.IFF.FLO", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "train_net.py: there is no key MODEL.IFF.FLO; did you mean MODEL.IFF.FLOW?"
    )
    assert "Traceback" not in result.stderr
