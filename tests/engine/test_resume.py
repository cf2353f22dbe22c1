"""A training that is killed and resumed ends as if nothing had happened."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import training_process as training

from iff_detectron2.data.moving_shapes import generate_moving_shapes

RUN = [
    *("--resume", "SOLVER.MAX_ITER", "9", "SOLVER.CHECKPOINT_PERIOD", "3"),
    *("TEST.EVAL_PERIOD", "6", "TEST.VIDEO.NUM_REFS", "2", "SEED", "7"),
    *("SOLVER.ACCUMULATE_STEPS", "2", "SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", "1"),
    # Much that is random, for the clip and for the model.
    *("INPUT.MIN_SIZE_TRAIN", "(48,64,80)", "INPUT.CROP.ENABLED", "True"),
]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    generate_moving_shapes(
        folder / "moving_shapes",
        num_train_videos=3,
        num_val_videos=1,
        num_frames=4,
        size=(96, 64),
        num_workers=1,
        progress=False,
    )
    return folder


def run(output: Path, datasets: Path, *args: str, **options) -> float:
    began = time.monotonic()
    codes = training.wait(training.start(output, datasets, *RUN, *args, **options))
    assert not any(codes), output.with_name(f"{output.name}.0.txt").read_text()[-3000:]
    return time.monotonic() - began


@pytest.fixture(scope="module")
def undisturbed(datasets, tmp_path_factory) -> tuple[Path, float]:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    return output, run(output, datasets)


@pytest.mark.parametrize(
    "moment",
    [
        "step 4",
        # R2: all steps are done and saved, but not under the last name.
        "model_0000008",
    ],
)
def test_killed_and_resumed(datasets, undisturbed, tmp_path, moment):
    output = tmp_path / "run"
    codes = training.wait(training.start(output, datasets, *RUN, die_after=moment))
    assert codes == [-9]
    assert not (output / "model_final.pth").exists()
    run(output, datasets)
    training.assert_same_run(undisturbed[0], output)


def test_the_comparison_sees_another_seed(datasets, undisturbed, tmp_path):
    run(tmp_path / "run", datasets, "SEED", "8")
    with pytest.raises(AssertionError):
        training.assert_same_run(undisturbed[0], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.endurance)])
def test_killed_at_random_moments(datasets, undisturbed, tmp_path, kills):
    expected, duration = undisturbed
    draw = random.Random(0)
    for number in range(kills):
        output = tmp_path / str(number)
        ranks = training.start(output, datasets, *RUN)
        time.sleep(draw.uniform(0.2, 1.0) * duration)
        training.kill(ranks)
        run(output, datasets)
        training.assert_same_run(expected, output)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.endurance)])
def test_two_processes_killed_at_random_moments(datasets, tmp_path, kills):
    duration = run(tmp_path / "undisturbed", datasets, world=2)
    draw = random.Random(0)
    for number in range(kills):
        output = tmp_path / str(number)
        ranks = training.start(output, datasets, *RUN, world=2)
        time.sleep(draw.uniform(0.3, 1.0) * duration)
        training.kill(ranks)
        run(output, datasets, world=2)
        training.assert_same_run(tmp_path / "undisturbed", output)
