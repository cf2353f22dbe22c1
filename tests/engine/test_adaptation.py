"""Training without labels: what it reads, learns, writes, and when it ends."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from folder_owner import owned_by_another
from toy_models import CONFIGS, build, tiny_cfg
from video_runs import SIZES, make_frames, write_frames

from iff_detectron2 import add_iff_config
from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.engine import VideoPredictor, load_config
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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["MODEL.IFF.ADAPT.LOSSES", "['RestorationLos']"],
            "LOSSES is 'RestorationLos', which is not registered; did you mean RestorationLoss?",
        ),
        (["MODEL.DEVICE", "cuda"], "but torch sees no GPU(s)"),
        (["MODEL.IFF.ADAPT.HELD_OUT", "1.5"], "between 0 and 1, got 1.5"),
    ],
)
def test_mistakes_are_one_sentence(plain_weights, tmp_path, capsys, words, sentence) -> None:
    write_frames(tmp_path / "video", make_frames(12))
    config = ["--config-file", "MovingShapes/iff_net_C", "--weights", str(plain_weights)]
    places = ["--input", str(tmp_path / "video"), "--output", str(tmp_path / "out")]
    settings = [str(value) for value in tiny_cfg_words()]
    assert main(["adapt", *config, *places, *settings, *words]) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_without_weights_it_is_said_what_is_missing(tmp_path, capsys) -> None:
    write_frames(tmp_path / "video", make_frames(12))
    places = ["--input", str(tmp_path / "video"), "--output", str(tmp_path / "out")]
    settings = [str(value) for value in tiny_cfg_words()]
    assert main(["adapt", "--config-file", "MovingShapes/rfcn", *places, *settings]) == 2
    error = capsys.readouterr().err
    assert "adapt wants a trained detector: name its checkpoint with --weights" in error
    assert "FREEZE_DETECTOR" not in error
    assert not (tmp_path / "out").exists()


def test_another_run_does_not_go_on_in_the_folder(plain_weights, tmp_path, capsys) -> None:
    """Take other videos, other settings, and the folder of a training of another kind."""
    for name in ("video", "other"):
        write_frames(tmp_path / name, make_frames(12))
    output = tmp_path / "out"

    def adapt(video: str, *opts: str) -> str:
        config = ["--config-file", "MovingShapes/iff_net_C", "--weights", str(plain_weights)]
        places = ["--input", str(tmp_path / video), "--output", str(output)]
        settings = ["SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD", "0"]
        code = main(["adapt", *config, *places, *map(str, tiny_cfg_words()), *settings, *opts])
        return capsys.readouterr().err if code else ""

    assert not adapt("video")
    weights = (output / "model_final.pth").read_bytes()
    assert f"INPUTS was ['{tmp_path / 'video'}'], now ['{tmp_path / 'other'}']" in adapt("other")
    assert "MODEL.IFF.GATE was True, now False" in adapt("video", "MODEL.IFF.GATE", "False")
    assert (output / "model_final.pth").read_bytes() == weights
    # What is done stays as it is with more steps, and on another device.
    assert not adapt("video", "SOLVER.MAX_ITER", "2", "DATALOADER.BAD_DATA_LIMIT", "3")
    config = (output / "config.yaml").read_text()
    plain = config.replace("VideoGeneralizedRCNN", "GeneralizedRCNN")
    (output / "config.yaml").write_text(plain)
    assert "META_ARCHITECTURE was 'GeneralizedRCNN'" in adapt("video")


def test_a_lazy_config_is_refused(tmp_path, capsys) -> None:
    config = ["--config-file", "COCO-Detection/fcos_R_50_FPN_1x.py"]
    assert main(["adapt", *config, "--input", str(tmp_path), "--output", str(tmp_path / "o")]) == 2
    assert "is a LazyConfig, of which adapt cannot make" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_one_process_adapts_in_a_folder(plain_weights, tmp_path, capsys) -> None:
    write_frames(tmp_path / "video", make_frames(12))
    output = tmp_path / "out"
    config = ["--config-file", "MovingShapes/iff_net_C", "--weights", str(plain_weights)]
    places = ["--input", str(tmp_path / "video"), "--output", str(output)]
    with owned_by_another(output):
        assert main(["adapt", *config, *places, *map(str, tiny_cfg_words())]) == 2
    assert f"{output} is in use by another process" in capsys.readouterr().err


def test_a_plain_config_becomes_its_video_version() -> None:
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    as_video_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "VideoRetinaNet"
    assert cfg.MODEL.IFF.IN_FEATURES == ["p3", "p4", "p5"]
    assert (cfg.MODEL.IFF.FLOW.LEVEL, cfg.MODEL.IFF.GATE) == ("p4", True)
    assert (cfg.MODEL.IFF.FLOW.CHANNELS, cfg.MODEL.IFF.EMBEDDING.CHANNELS) == (128, 256)


def test_widths_that_a_plain_config_has_for_its_temporal_part_stay() -> None:
    cfg = load_config(str(CONFIGS / "MovingShapes" / "rfcn.yaml")).clone()
    cfg.defrost()
    as_video_config(cfg)
    flow, embedding = cfg.MODEL.IFF.FLOW, cfg.MODEL.IFF.EMBEDDING
    assert (flow.CHANNELS, flow.PAIR_CHANNELS, flow.MAX_DISPLACEMENT) == (64, 32, 4)
    assert (embedding.HIDDEN_CHANNELS, embedding.CHANNELS) == (64, 128)


def test_a_video_config_stays_and_overrides_have_the_last_word(tmp_path) -> None:
    cfg = tiny_cfg("MODEL.IFF.FLOW.CHANNELS", 24)
    adapted = adaptation_config(cfg, ["a.mp4"], tmp_path, ["SOLVER.MAX_ITER", 7])
    # A detector's own weight of the alignment loss would lead the flow alone here.
    assert adapted.MODEL.IFF.TRL.WEIGHT == 0.1
    assert adapted.MODEL.IFF.FLOW.CHANNELS == 24
    assert adapted.SOLVER.MAX_ITER == 7
    assert adapted.MODEL.IFF.ADAPT.INPUTS == ["a.mp4"]
    assert not adapted.DATASETS.TRAIN
    assert cfg.SOLVER.MAX_ITER != 7


def test_training_looks_as_far_as_the_window_of_testing(tmp_path) -> None:
    def reach(*opts) -> tuple[int, int]:
        cfg = load_config(str(CONFIGS / "MovingShapes" / "rfcn.yaml"))
        adapted = adaptation_config(cfg, ["a.mp4"], tmp_path, opts)
        return adapted.TEST.VIDEO.NUM_REFS, adapted.INPUT.VIDEO.MAX_OFFSET

    # The config of the plain detector has no reference frame, with which nothing would be fused.
    assert reach() == (10, 5)
    assert reach("TEST.VIDEO.NUM_REFS", 4, "TEST.VIDEO.STRIDE", 3) == (4, 6)
    assert reach("TEST.VIDEO.NUM_REFS", 3, "TEST.VIDEO.CAUSAL", True) == (3, 3)
    assert reach("INPUT.VIDEO.MAX_OFFSET", 7) == (10, 7)


def test_training_without_videos_is_refused() -> None:
    with pytest.raises(ValueError, match="INPUTS is empty"):
        AdaptationTrainer.read_videos(tiny_cfg())


def test_a_labelled_test_set_is_scored_too(
    plain_weights, tmp_path, tiny_vid, clean_catalogs, caplog
) -> None:
    write_frames(tmp_path / "video", make_frames(12))
    register_imagenet_vid("adapt_val", tiny_vid(lengths=(4, 3)), "VID_val_videos")
    words = [
        *tiny_cfg_words(),
        "MODEL.ROI_HEADS.NUM_CLASSES",
        30,
        "DATASETS.TEST",
        "('adapt_val',)",
    ]
    words += ["MODEL.WEIGHTS", str(plain_weights), "MODEL.ALLOW_MISSING_WEIGHTS", True]
    base = tiny_cfg(*SIZES, "MODEL.IFF.GATE", True)
    cfg = adaptation_config(base, [str(tmp_path / "video")], tmp_path / "out", words)
    trainer = AdaptationTrainer(cfg)
    with caplog.at_level(logging.INFO, logger="iff_detectron2.engine.hooks"):
        results = trainer.train()
    assert results["adapt"][RESTORED] > 0
    assert "mAP50" in results["bbox"]
    assert any("adapt_val: alignment" in record.getMessage() for record in caplog.records)


class Checkpoints:
    def __init__(self) -> None:
        self.saved: list[str] = []

    def save_model(self, name: str) -> None:
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
