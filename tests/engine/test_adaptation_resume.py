"""An adaptation that is killed and started again ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import training_process as training
from toy_models import TINY, build, tiny_cfg
from video_runs import SIZES, make_frames, write_frames

from iff_detectron2.engine.adaptation import ADAPTED_CONFIG
from iff_detectron2.inference.adapt import REPORT

pytestmark = pytest.mark.slow

RUN = [
    *(*TINY, *SIZES, "MODEL.IFF.GATE", True, "SOLVER.IMS_PER_BATCH", 1, "SEED", 3),
    *("SOLVER.MAX_ITER", 8, "TEST.EVAL_PERIOD", 2, "SOLVER.CHECKPOINT_PERIOD", 2),
    *("MODEL.IFF.ADAPT.HELD_OUT_CLIPS", 2, "INPUT.MIN_SIZE_TRAIN", "(40,)"),
    *("INPUT.VIDEO.NUM_REFS", 1, "DATALOADER.NUM_WORKERS", 0),
]
# Nothing is learned, so that the second look is no better than the first one.
IDLE = ["SOLVER.BASE_LR", 1e-30, "MODEL.IFF.ADAPT.PATIENCE", 1]


class Adaptation:
    """A video and a detector, to be adapted again and again."""

    def __init__(self, folder: Path) -> None:
        write_frames(folder / "video", make_frames(12))
        state = build(tiny_cfg(*SIZES, "MODEL.IFF.GATE", True)).state_dict()
        plain = {name: value for name, value in state.items() if not name.startswith("temporal.")}
        torch.save({"model": plain}, folder / "plain.pth")
        self.words = ["--config-file", "MovingShapes/iff_net_C"]
        self.words += ["--weights", str(folder / "plain.pth"), "--input", str(folder / "video")]

    def run(self, output: Path, opts: list, die_after: str = "") -> None:
        settings = [str(value) for value in (*RUN, *opts)]
        ranks = training.start_adapting(output, self.words, settings, die_after=die_after)
        assert training.wait(ranks) == [-9 if die_after else 0], output.with_name(
            f"{output.name}.0.txt"
        ).read_text()[-3000:]


@pytest.fixture(scope="module")
def adaptation(tmp_path_factory) -> Adaptation:
    return Adaptation(tmp_path_factory.mktemp("adaptation"))


@pytest.fixture(scope="module")
def undisturbed(adaptation, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, opts in {"whole": [], "idle": IDLE}.items():
        adaptation.run(folder / name, opts)
    return {name: folder / name for name in ("whole", "idle")}


def assert_same(one: Path, other: Path) -> None:
    training.assert_same_training(one, other)
    assert (one / REPORT).read_text() == (other / REPORT).read_text()
    texts = [(path / ADAPTED_CONFIG).read_text().replace(str(path), "") for path in (one, other)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "moment",
    [
        "model_0000003",  # the look that follows is still to be done
        "model_best",
        "step 4",
        "model_final",  # of the last step
        "model_final again",  # of the best one
    ],
)
def test_killed_and_started_again(adaptation, undisturbed, tmp_path, moment):
    adaptation.run(tmp_path / "run", [], die_after=moment)
    assert not (tmp_path / "run" / ADAPTED_CONFIG).exists()
    adaptation.run(tmp_path / "run", [])
    assert_same(undisturbed["whole"], tmp_path / "run")


def test_it_ended_early(undisturbed):
    steps = [line["iteration"] for line in training.metrics(undisturbed["idle"])]
    assert steps[-1] == 3


@pytest.mark.parametrize("moment", ["model_0000003", "model_final"])
def test_killed_at_the_look_that_ends_it(adaptation, undisturbed, tmp_path, moment):
    adaptation.run(tmp_path / "run", IDLE, die_after=moment)
    adaptation.run(tmp_path / "run", IDLE)
    assert_same(undisturbed["idle"], tmp_path / "run")


@pytest.mark.parametrize("opts", [[], IDLE], ids=["whole", "idle"])
def test_what_is_finished_stays_as_it_is(adaptation, undisturbed, tmp_path, opts):
    adaptation.run(tmp_path / "run", opts)
    adaptation.run(tmp_path / "run", opts)
    assert_same(undisturbed["idle" if opts else "whole"], tmp_path / "run")
