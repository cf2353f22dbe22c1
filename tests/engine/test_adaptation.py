"""Training without labels: what it reads, learns, writes, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from toy_models import build, tiny_cfg
from video_runs import SIZES, make_frames, write_frames

from iff_detectron2 import add_iff_config
from iff_detectron2.engine import VideoPredictor
from iff_detectron2.engine.adaptation import (
    ADAPTED_CONFIG,
    RESTORED,
    AdaptationTrainer,
    EnoughTraining,
    Patience,
    as_video_config,
)
from iff_detectron2.inference.adapt import REPORT, adaptation_config, report_text
from iff_detectron2.inference.adaptation_report import AgreementRow
from iff_detectron2_cli.main import main


@pytest.fixture
def plain_weights(tmp_path: Path) -> Path:
    """Write the weights of a detector without a temporal part."""
    path = tmp_path / "plain.pth"
    state = build(tiny_cfg(*SIZES, "MODEL.IFF.GATE", True)).state_dict()
    plain = {name: value for name, value in state.items() if not name.startswith("temporal.")}
    torch.save({"model": plain}, path)
    return path


def test_from_video_to_a_detector_that_predicts(plain_weights, tmp_path, capsys) -> None:
    write_frames(tmp_path / "video", make_frames(12))
    output = tmp_path / "adapted"
    settings = [str(value) for value in tiny_cfg_words()]
    code = main(
        [
            *("adapt", "--config-file", "MovingShapes/iff_net_C", "--weights", str(plain_weights)),
            *("--input", str(tmp_path / "video"), "--output", str(output), *settings),
        ]
    )
    assert code == 0
    text = capsys.readouterr().out
    assert "AP50 against what the plain detector finds in the clean frames" in text
    assert f"--config-file {output / ADAPTED_CONFIG}" in text
    report = json.loads((output / REPORT).read_text())
    assert report["held_out"][RESTORED] > 0
    assert [row["frames"] for row in report["agreement"]] == ["spoilt", "clean"]
    # The weights keep the names that a video detector has, and the detector's own are untouched.
    saved = torch.load(output / "model_final.pth", weights_only=True)["model"]
    plain = torch.load(plain_weights, weights_only=True)["model"]
    assert set(plain) < set(saved)
    for name, value in plain.items():
        torch.testing.assert_close(saved[name], value, rtol=0, atol=0)
    assert any(name.startswith("temporal.") for name in saved)
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.merge_from_file(str(output / ADAPTED_CONFIG))
    results = list(VideoPredictor(cfg)(make_frames(5)))
    assert [index for index, *_ in results] == list(range(5))


def tiny_cfg_words() -> list:
    from toy_models import TINY

    return [
        *(*TINY, *SIZES, "MODEL.IFF.GATE", True, "SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 2),
        *("SOLVER.IMS_PER_BATCH", 1, "MODEL.IFF.ADAPT.HELD_OUT_CLIPS", 2, "SEED", 3),
        *("INPUT.MIN_SIZE_TRAIN", "(40,)", "INPUT.VIDEO.NUM_REFS", 1, "DATALOADER.NUM_WORKERS", 0),
    ]


def test_a_plain_config_becomes_its_video_version() -> None:
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    as_video_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "VideoRetinaNet"
    assert cfg.MODEL.IFF.IN_FEATURES == ["p3", "p4", "p5"]
    assert (cfg.MODEL.IFF.FLOW.LEVEL, cfg.MODEL.IFF.GATE) == ("p4", True)


def test_a_video_config_stays_and_overrides_have_the_last_word(tmp_path) -> None:
    cfg = tiny_cfg("MODEL.IFF.FLOW.CHANNELS", 24)
    adapted = adaptation_config(cfg, ["a.mp4"], tmp_path, ["SOLVER.MAX_ITER", 7])
    assert adapted.MODEL.IFF.FLOW.CHANNELS == 24
    assert adapted.SOLVER.MAX_ITER == 7
    assert adapted.MODEL.IFF.ADAPT.INPUTS == ["a.mp4"]
    assert not adapted.DATASETS.TRAIN
    assert cfg.SOLVER.MAX_ITER != 7


def test_training_without_videos_is_refused() -> None:
    with pytest.raises(ValueError, match="INPUTS is empty"):
        AdaptationTrainer.read_videos(tiny_cfg())


class Checkpoints:
    def __init__(self) -> None:
        self.saved: list[str] = []

    def save(self, name: str, **_: object) -> None:
        self.saved.append(name)


class Storage:
    def __init__(self) -> None:
        self.values: dict[str, tuple[float, int]] = {}

    def latest(self) -> dict[str, tuple[float, int]]:
        return self.values


class Trainer:
    def __init__(self) -> None:
        self.iter, self.storage, self.checkpointer = 0, Storage(), Checkpoints()


def look(patience: Patience, trainer: Trainer, value: float | None) -> bool:
    """Do a step with or without an evaluation; return whether training goes on."""
    trainer.iter += 1
    if value is not None:
        trainer.storage.values["m"] = (value, trainer.iter)
    try:
        patience.after_step()
    except EnoughTraining:
        return False
    return True


def test_patience_counts_looks_and_keeps_the_best() -> None:
    patience, trainer = Patience("m", 2), Trainer()
    patience.trainer = trainer
    assert look(patience, trainer, 0.9)
    assert look(patience, trainer, None)  # a step without a look counts neither way
    assert look(patience, trainer, 0.95)
    assert look(patience, trainer, 0.8)
    assert look(patience, trainer, 0.85)
    assert not look(patience, trainer, 0.8)  # as good is not better
    assert len(trainer.checkpointer.saved) == 2


def test_the_verdict_follows_the_numbers() -> None:
    rows = [AgreementRow("spoilt", 40.0, 55.0), AgreementRow("clean", 100.0, 99.0)]
    good = report_text({"restored": 0.7, "kept": 0.01}, rows)
    assert "helps here: 30 % of the harm to features is undone, +15.0 AP50" in good
    assert "-1.0 on clean ones" in good
    rows[0] = AgreementRow("spoilt", 40.0, 39.0)
    assert "does not help here" in report_text({"restored": 0.7, "kept": 0.01}, rows)
