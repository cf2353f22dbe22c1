"""A training that is killed and resumed ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

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

# What is seen of the parts of a run, after its start, when each begins.
PARTS = ["Starting training from iteration", "model_0000002.pth", "model_0000005.pth"]


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


class Undisturbed(NamedTuple):
    """Folder of a run that nothing disturbed, and the seconds that its start and `PARTS` took."""

    output: Path
    seconds: list[float]


def run(output: Path, datasets: Path, *args: str, **options) -> Undisturbed:
    training.get_ready()
    times = [time.monotonic()]
    ranks = training.start(output, datasets, *RUN, *args, **options)
    for sight in PARTS:
        training.wait_until(ranks, output, sight)
        times.append(time.monotonic())
    codes = training.wait(ranks)
    assert not any(codes), output.with_name(f"{output.name}.0.txt").read_text()[-3000:]
    times.append(time.monotonic())
    return Undisturbed(output, [after - before for before, after in pairwise(times)])


@pytest.fixture(scope="module")
def undisturbed(datasets, tmp_path_factory) -> Undisturbed:
    return run(tmp_path_factory.mktemp("undisturbed") / "run", datasets)


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
    training.assert_same_run(undisturbed.output, output)


def test_the_comparison_sees_another_seed(datasets, undisturbed, tmp_path):
    run(tmp_path / "run", datasets, "SEED", "8")
    with pytest.raises(AssertionError):
        training.assert_same_run(undisturbed.output, tmp_path / "run")


def numbers(in_suite: int, in_all: int) -> pytest.MarkDecorator:
    """Mark a test to run a few times in the suite, and so many other times by `make test-slow`."""
    more = range(in_suite, in_suite + in_all)
    rest = [pytest.param(n, marks=pytest.mark.endurance) for n in more]
    return pytest.mark.parametrize("number", [*range(in_suite), *rest])


def assert_killed_is_undisturbed(
    datasets: Path, expected: Undisturbed, folder: Path, number: int, world: int = 1
) -> None:
    """Kill a training at a moment that follows from the number, resume it, and compare."""
    # Of a part whose beginning is seen, as another load makes a run slower than the undisturbed
    # one; few in the start, which has nothing to lose yet.
    draw = random.Random(number)
    part = draw.choices(range(4), weights=[1, 2, 3, 3])[0]
    moment = draw.random() * expected.seconds[part]
    for attempt in range(10):
        output = folder / f"run_{attempt}"
        ranks = training.start(output, datasets, *RUN, world=world)
        for sight in PARTS[:part]:
            training.wait_until(ranks, output, sight)
        time.sleep(moment)
        if training.kill(ranks) == [-signal.SIGKILL] * world:
            break
        moment *= 0.8  # it had ended before, as on a machine that has become quicker
    else:
        pytest.fail("no training was killed")
    left = sorted(path.name for path in output.glob("model_*.pth"))
    print(f"killed {moment:.1f} s after {['', *PARTS][part] or 'its start'}; checkpoints: {left}")
    run(output, datasets, world=world)
    training.assert_same_run(expected.output, output)


@pytest.mark.slow
@numbers(2, 20)
def test_killed_at_a_random_moment(datasets, undisturbed, tmp_path, number):
    assert_killed_is_undisturbed(datasets, undisturbed, tmp_path, number)


@pytest.fixture(scope="module")
def undisturbed_by_two(datasets, tmp_path_factory) -> Undisturbed:
    return run(tmp_path_factory.mktemp("undisturbed_by_two") / "run", datasets, world=2)


@pytest.mark.slow
@numbers(1, 6)
def test_two_processes_killed_at_a_random_moment(datasets, undisturbed_by_two, tmp_path, number):
    assert_killed_is_undisturbed(datasets, undisturbed_by_two, tmp_path, number, world=2)
