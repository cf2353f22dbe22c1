"""What a user does wrong ends in one sentence that says what, and exit code 2."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from iff_detectron2.engine import launch_from_command_line
from iff_detectron2_cli.main import main

CONFIG = "--config-file MovingShapes/iff_net_C"
PREDICT = f"predict {CONFIG} --input clip"
FCOS = Path(__file__).parents[2] / "projects/FCOS/iff_fcos.py"
TRAIN = "train --config-file quick_schedules/iff_net_C_instant"

# What was typed, in a folder with the files of `desk` -> words of the sentence.
MISTAKES = [
    ("predit --input clip", "no verb 'predit'", "did you mean predict?"),
    ("fly", "the verbs are demo, predict"),
    ("predict --config-file x.yaml", "required: --input"),
    (f"{PREDICT} --ouput there", "--ouput is not known", "did you mean --output?"),
    (f"{PREDICT} MODEL.DEVICE cpu --ouput there", "--ouput", "did you mean --output?"),
    (f"{PREDICT} --format xml", "--format", "'xml'", "csv"),
    (f"{PREDICT} --fps fast", "--fps", "'fast'"),
    ("predict --input clip --config-file none.yaml", "config none.yaml does not exist"),
    ("predict --input clip --config-file MovingShapes/iff_nett_C", "did you mean MovingShapes/iff"),
    (
        "predict --input clip --config-file COCO-Detection/faster_rcnn_R50_FPN_3x.yaml",
        "did you mean COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml?",
    ),
    (
        "predict --input clip --config-file COCO-Detection/fcos_R_50_FPN_1.py",
        "did you mean COCO-Detection/fcos_R_50_FPN_1x.py?",
    ),
    ("predict --input clip --config-file clip", "config clip is a folder"),
    ("predict --input clip --config-file broken.yaml", "broken.yaml is no YAML", "in line"),
    ("predict --input clip --config-file text.yaml", "text.yaml holds no keys"),
    (
        "predict --input clip --config-file code.yaml",
        "code.yaml",
        "python/object",
        "could run code",
    ),
    ("predict --input clip --config-file loop.yaml", "loop.yaml is its own _BASE_"),
    ("predict --input clip --config-file base.yaml", "_BASE_", "gone.yaml"),
    ("predict --input clip --config-file binary.yaml", "binary.yaml is no text"),
    ("predict --input clip --config-file key.yaml", "MODEL.WEIHGTS; did you mean MODEL.WEIGHTS?"),
    (f"{PREDICT} MODEL.IFF.FLO.NAME BasicIFF", "no key MODEL.IFF.FLO", "MODEL.IFF.FLOW"),
    (f"{PREDICT} MODEL.IFF.FLOW.NAME", "override MODEL.IFF.FLOW.NAME has no value"),
    (f"{PREDICT} MODEL.IFF.FLOW.NAME=BasicIFF", "MODEL.IFF.FLOW.NAME=BasicIFF", "KEY VALUE"),
    (f"{PREDICT} MODEL.RPN.NMS_THRESH high", "MODEL.RPN.NMS_THRESH must be like 0.7, got high"),
    (f"{PREDICT} TEST.VIDEO.COMPILE True", "TEST.VIDEO.COMPILE must be text, got True"),
    (f"{PREDICT} MODEL.IFF 3", "MODEL.IFF must be a section of keys, got 3"),
    (
        f"{PREDICT} MODEL.META_ARCHITECTURE VideoGeneralisedRCNN",
        "MODEL.META_ARCHITECTURE",
        "did you mean VideoGeneralizedRCNN?",
    ),
    (f"{PREDICT} MODEL.IFF.AGGREGATOR FlowGuided", "MODEL.IFF.AGGREGATOR", "FlowGuidedAggregator"),
    (f"{PREDICT} MODEL.DEVICE cuda", "MODEL.DEVICE is cuda", "no GPU"),
    (f"{PREDICT} MODEL.DEVICE cuda:7", "MODEL.DEVICE is cuda:7", "GPU"),
    (f"{PREDICT} MODEL.DEVICE gpu", "MODEL.DEVICE is 'gpu'", "cpu, cuda"),
    (f"{PREDICT} TEST.VIDEO.POSTPROCESS seqnms", "TEST.VIDEO.POSTPROCESS", "seq_nms"),
    (f"{PREDICT} --weights none.pth", "checkpoint none.pth does not exist"),
    (f"{PREDICT} --weights text.yaml", "text.yaml"),
    (PREDICT, "MODEL.WEIGHTS"),
    ("predict --input clip --config-file program.py", "program.py is no Python", "line 1"),
    (f"predict --input clip --config-file {FCOS} train.devise=cpu", "did you mean device?"),
    (f"predict --input clip --config-file {FCOS} MODEL.DEVICE cpu", "takes KEY=VALUE"),
    (f"{PREDICT} --import no_such_project", "no_such_project"),
    (f"{PREDICT} --import project:add_cfg", "no function add_cfg; did you mean add_config?"),
    (f"predict {CONFIG} --input none.mp4", "none.mp4"),
    (f"predict {CONFIG} --input text.yaml", "text.yaml"),
    (f"predict {CONFIG} --input empty", "empty"),
    (f"flow {CONFIG} --input clip --frame -1", "--frame counts from 0"),
    (f"flow {CONFIG} --input clip --frame 99", "clip has 3 frames"),
    (f"flow {CONFIG} --input 0 --frame 3", "camera"),
    (f"export {CONFIG} --size big", "--size", "WIDTHxHEIGHT", "'big'"),
    (f"export {CONFIG} --weights none.pth", "checkpoint none.pth does not exist"),
    (f"{TRAIN} DATASETS.TRAIN \"['moving_shape_train']\"", "did you mean moving_shapes_train?"),
    (f"{TRAIN} DATASETS.TRAIN []", "DATASETS.TRAIN is empty"),
    (f"{TRAIN} DATASETS.REGISTER \"['mine=mott:x']\"", "mine=mott:x", "mot_challenge"),
    (f"{TRAIN} --num-machines 2", "--dist-url"),
    ("demo --config-file none.yaml", "config none.yaml does not exist"),
    ("evaluate none.json --dataset moving_shapes_val", "no file none.json"),
    ("evaluate results.json --dataset moving_shape_val", "did you mean moving_shapes_val?"),
    ("evaluate results.json --dataset moving_shapes_val --names A B", "add --report"),
    ("evaluate results.json --dataset moving_shapes_val --protocol coko", "'coko'", "fgfa"),
    ("evaluate results.json --dataset mine=coco_vid", "mine=coco_vid"),
    ("postprocess results.json out.txt", "out.txt", ".json"),
    ("postprocess results.json out.json --dataset imagenet_vid_vall", "imagenet_vid_val?"),
    ("postprocess results.json out.json --workers 0", "--workers is 0"),
    ("synth out --size 10", "--size", "WIDTHxHEIGHT"),
    ("synth out --train-videos -1", "-1"),
    ("index empty", "empty has none of"),
    ("convert out.pth", "--backbone, --flownet"),
    ("convert out.pth --backbone none.pth", "none.pth"),
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch, clean_catalogs) -> None:
    """Make a working directory with a video of three frames and files that are not right."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"clip/{number:03d}.png"), np.zeros((40, 60, 3), np.uint8))
    files = {
        "broken.yaml": "MODEL:\n  WEIGHTS: [\n",
        "text.yaml": "not a config",
        "code.yaml": "OUTPUT_DIR: !!python/object/apply:os.system ['touch ran']\n",
        "loop.yaml": "_BASE_: loop.yaml\n",
        "base.yaml": "_BASE_: gone.yaml\n",
        "key.yaml": "MODEL:\n  WEIHGTS: x\n",
        "project.py": "def add_config(cfg):\n    pass\n",
        "results.json": json.dumps([]),
        "program.py": "model = (",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))


def run(line: str) -> object:
    """Return the exit code of a command."""
    try:
        return main(shlex.split(line))
    except SystemExit as end:
        return end.code


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(("line", "words"), [(m[0], m[1:]) for m in MISTAKES], ids=lambda v: str(v))
def test_one_sentence(line, words, capsys):
    assert run(line) == 2
    told = capsys.readouterr()
    error = told.err
    assert error.startswith("iff-detectron2"), error
    assert error.count("\n") == 1
    assert [word for word in words if word not in error] == [], error
    assert not Path("ran").exists()
    assert not Path("output").exists(), "nothing is written before the mistake is told"


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(("line", "words"), [(m[0], m[1:]) for m in MISTAKES if TRAIN in m[0]])
def test_training_scripts_tell_the_same(line, words, capsys):
    """train_net.py and those of projects."""
    with pytest.raises(SystemExit) as end:
        launch_from_command_line(argv=shlex.split(line)[1:])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert [word for word in words if word not in error] == [], error


@pytest.mark.usefixtures("desk")
def test_doctor_tells_on_its_page(capsys):
    assert run("doctor moving_shape_val") == 2
    assert "there is no dataset 'moving_shape_val'; did you mean mov" in capsys.readouterr().out


def test_there_are_at_least_thirty():
    assert len({line for line, *_ in MISTAKES}) == len(MISTAKES) >= 30
