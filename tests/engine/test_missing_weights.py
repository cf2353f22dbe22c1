"""What a checkpoint lacks is an error at every door, with the likely reason."""

import logging

import pytest
import torch
from toy_models import CONFIGS, TINY, build, tiny_cfg
from video_runs import SIZES, make_frames, write_frames

from iff_detectron2.cli.main import main
from iff_detectron2.engine import (
    VideoCheckpointer,
    VideoPredictor,
    VideoTrainer,
    launch_from_command_line,
)

OFFSETS = ("MODEL.IFF.AGGREGATOR", "OffsetAwareAggregator")
DEFORMABLE = ("MODEL.DILATED_RESNET.DEFORM_BLOCKS", [0, 0, 0, 1])
CLASSES = ("MODEL.ROI_HEADS.NUM_CLASSES", 3)
PLAIN = ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN")
# Settings of the model whose weights are saved, of the one that gets them, and what is said.
CASES = {
    "no weights": (None, (), r"MODEL\.WEIGHTS is empty, and backbone\.\S+,.* random"),
    "other classes": (
        CLASSES,
        (),
        r"cls_score\.weight \(\[36, .*there, \[81, .*here\).*another number of classes",
    ),
    "plain detector": (PLAIN, (), r"temporal\.\S+,.*plain detector.*still to be trained"),
    "other flow": (("MODEL.IFF.FLOW.NAME", "BasicIFF"), (), r"flow_estimator.*another net"),
    "deformable, the model is not": (DEFORMABLE, (), r"no place for, backbone\.res5\.0\.conv2_off"),
    "not deformable, the model is": ((), DEFORMABLE, r"lacks 2 of .*conv2_offset.*another net"),
    "other offsets": (
        (*OFFSETS, "INPUT.VIDEO.MAX_OFFSET", 6),
        OFFSETS,
        r"MAX_OFFSET 6, the config says 10",
    ),
    "other width": (("MODEL.IFF.EMBEDDING.CHANNELS", 24), (), r"\[24, .*there, \[16,.*another net"),
}


def save_weights(folder, opts):
    if opts is None:
        return ""
    path = folder / "weights.pth"
    torch.save({"model": build(tiny_cfg(*SIZES, *opts)).state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("case", CASES)
def test_what_the_checkpoint_lacks_is_refused(case, tmp_path):
    saved, opts, message = CASES[case]
    cfg = tiny_cfg(*SIZES, *opts, "MODEL.WEIGHTS", save_weights(tmp_path, saved))
    with pytest.raises(ValueError, match=message) as error:
        VideoPredictor(cfg)
    assert "MODEL.ALLOW_MISSING_WEIGHTS" in str(error.value)
    asked_for = ("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS, "MODEL.ALLOW_MISSING_WEIGHTS", True)
    assert len(list(VideoPredictor(tiny_cfg(*SIZES, *opts, *asked_for))(make_frames(2)))) == 2


def test_a_backbone_alone_is_no_detector(tmp_path):
    model = build(tiny_cfg(*SIZES))
    path = tmp_path / "backbone.pth"
    weights = {n: x for n, x in model.state_dict().items() if n.startswith("backbone.")}
    torch.save({"model": weights}, path)
    with pytest.raises(ValueError, match=r"backbone alone, .*still to be trained"):
        VideoPredictor(tiny_cfg(*SIZES, "MODEL.WEIGHTS", str(path)))


@pytest.mark.parametrize("door", ["predict", "flow", "--eval-only"])
@pytest.mark.parametrize("case", ["no weights", "other classes"])
def test_every_door_refuses(door, case, tmp_path, capsys):
    weights = save_weights(tmp_path, CASES[case][0])
    settings = [*map(str, (*TINY, *SIZES)), "MODEL.WEIGHTS", weights]
    config = ["--config-file", str(CONFIGS / "MovingShapes" / "iff_net_C.yaml")]
    if door == "--eval-only":
        argv = [*config, "--eval-only", *settings, "OUTPUT_DIR", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as end:
            launch_from_command_line(argv=argv)
        assert end.value.code == 2
        assert "MODEL.ALLOW_MISSING_WEIGHTS" in capsys.readouterr().err.splitlines()[-1]
        return
    write_frames(tmp_path / "clip", make_frames(3))
    output = tmp_path / "out"
    arguments = [*config, "--input", str(tmp_path / "clip"), "--output", str(output)]
    frame = ["--frame", "1"] if door == "flow" else []
    assert main([door, *arguments, *frame, *settings]) == 2
    assert "MODEL.ALLOW_MISSING_WEIGHTS" in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()


@pytest.mark.parametrize("source", ["nothing", "a backbone", "other classes", "a plain detector"])
def test_a_training_may_start_anew_and_says_what_does(source, tmp_path, caplog):
    opts = {"other classes": CLASSES, "a plain detector": PLAIN}.get(source, ())
    weights = build(tiny_cfg(*SIZES, *opts), seed=1).state_dict()
    if source == "a backbone":
        weights = {n: x for n, x in weights.items() if n.startswith("backbone.")}
    path = tmp_path / "weights.pth"
    torch.save({"model": weights}, path)
    model = build(tiny_cfg(*SIZES))
    with caplog.at_level(logging.INFO, "iff_detectron2"):
        VideoCheckpointer(model).load("" if source == "nothing" else str(path))
    (said,) = [r.getMessage() for r in caplog.records if r.name.startswith("iff_detectron2")]
    expected = {
        "nothing": "no checkpoint",
        "a backbone": "a backbone alone",
        "other classes": "2 of roi_heads.box_predictor): ",
        "a plain detector": "of temporal.aggregators): ",
    }
    assert "start anew" in said
    assert expected[source] in said
    loaded = torch.equal(model.backbone.stem.conv1.weight, weights["backbone.stem.conv1.weight"])
    assert loaded == (source != "nothing")


FROZEN = {
    "MODEL.IFF.FLOW.FREEZE": ("MODEL.IFF.FLOW.NAME", "FlowNetS", "MODEL.IFF.FLOW.FREEZE", True),
    "MODEL.BACKBONE.FREEZE_AT": ("MODEL.BACKBONE.FREEZE_AT", 2),
    "MODEL.IFF.FREEZE_DETECTOR": ("MODEL.IFF.FREEZE_DETECTOR", True),
}


@pytest.mark.parametrize("key", FROZEN)
def test_frozen_weights_must_be_given(key, tmp_path):
    settings = (*SIZES, *FROZEN[key])
    if "FlowNetS" in settings:
        settings = (*settings, "MODEL.IFF.TRL.ENABLED", False)
    model = build(tiny_cfg(*settings))
    with pytest.raises(ValueError, match=f"{key} keeps weights as they are, but MODEL.WEIGHTS is "):
        VideoCheckpointer(model).load("")
    VideoCheckpointer(model, needs="nothing").load("")
    torch.save({"model": model.state_dict()}, tmp_path / "all.pth")
    VideoCheckpointer(model).load(str(tmp_path / "all.pth"))


def test_a_run_is_not_resumed_with_another_net(tmp_path):
    VideoCheckpointer(build(tiny_cfg(*SIZES, *CLASSES)), str(tmp_path)).save("model_0000001")
    checkpointer = VideoCheckpointer(build(tiny_cfg(*SIZES)), str(tmp_path))
    with pytest.raises(ValueError, match=r"model_0000001\.pth lacks .*number of classes"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.resume_or_load(str(tmp_path / "model_0000001.pth"), resume=False)


def test_after_an_error_another_file_can_be_loaded(tmp_path):
    model = build(tiny_cfg(*SIZES))
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "wrong.pth")
    torch.save({"model": model.state_dict()}, tmp_path / "right.pth")
    checkpointer = VideoCheckpointer(model)
    for name, error in (("wrong.pth", ValueError), ("none.pth", FileNotFoundError)):
        with pytest.raises(error, match=name):
            checkpointer.load(str(tmp_path / name))
    checkpointer.load(str(tmp_path / "right.pth"))


def test_training_loads_the_weights_whoever_forgot_to(tmp_path, monkeypatch):
    trainer = VideoTrainer.__new__(VideoTrainer)
    trainer._loaded = False
    asked = []
    monkeypatch.setattr(VideoTrainer, "resume_or_load", lambda self, resume: asked.append(resume))
    monkeypatch.setattr("detectron2.engine.DefaultTrainer.train", lambda self: "trained")
    assert trainer.train() == "trained"
    assert asked == [False]
