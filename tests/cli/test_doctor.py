"""The verb `doctor`: exit codes and JSON for scripts."""

from __future__ import annotations

import json

import pytest
import torch
from toy_models import tiny_cfg
from video_runs import SIZES, make_model

from iff_detectron2_cli.main import main

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def spec(tiny_vid) -> str:
    root = tiny_vid(lengths=(4,))
    return f"mine=imagenet_vid:{root}@VID_val_videos"


def test_clean_but_for_notes(spec, capsys) -> None:
    assert main(["doctor", spec]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Dataset mine\n")
    assert "[classes] classes without a box (29)" in out
    assert "No problem found." in out


def test_problems_as_json(spec, tiny_vid, capsys) -> None:
    (tiny_vid.root / "Data/VID/train/video_0/000001.JPEG").unlink()
    assert main(["doctor", spec, "--json", "--decode"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 1
    assert report["dataset"] == "mine"
    (found,) = [f for f in report["findings"] if f["check"] == "files"]
    assert found["level"] == "problem"
    assert found["examples"] == [f"{tiny_vid.root}/Data/VID/train/video_0/000001.JPEG"]


def test_strict_counts_notes(mot_sequence) -> None:
    folder = mot_sequence(lines=[mot_sequence.line(frame) for frame in (1, 2, 4, 5)])
    spec = f"mine=mot_challenge:{folder}"
    assert main(["doctor", spec]) == 0
    assert main(["doctor", spec, "--strict"]) == 0  # frame 3 is not annotated: no gap


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ("nothing_of_that_name", "there is no dataset 'nothing_of_that_name'"),
        ("mine=no_such_format:x", "cannot read the dataset"),
        ("mine=mot_challenge:/nowhere", "does not exist"),
    ],
)
def test_what_cannot_be_read(dataset: str, text: str, capsys) -> None:
    assert main(["doctor", dataset, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert text in report["unreadable"]
    assert report["exit_code"] == 2


def test_a_path_is_enough(mot_sequence, capsys) -> None:
    folder = mot_sequence(length=4)
    assert main(["doctor", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Dataset {folder.name}\n")
    assert f"{folder.name}=mot_challenge:{folder}\n" in out


def test_a_path_of_no_known_format(tmp_path, capsys) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "is in no format that is told by its files" in capsys.readouterr().out


def detector(folder, *opts):
    """Arguments of a tiny detector whose flow is random."""
    config, weights = folder / "tiny.yaml", folder / "tiny.pth"
    config.write_text(tiny_cfg(*SIZES, *opts).dump(), encoding="utf-8")
    torch.save({"model": make_model(*opts).state_dict()}, weights)
    return ["--config-file", str(config), "--weights", str(weights)]


def test_a_detector_whose_alignment_does_not_help_is_a_note(spec, tmp_path, capsys):
    arguments = ["doctor", spec, *detector(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "[alignment] alignment does not help here (the flow is " in out
    assert "off the tracks" in out
    assert "TEST.VIDEO.NUM_REFS" in out
    assert main([*arguments, "--strict"]) == 1


def test_what_was_found_is_told_where_a_detector_cannot_be_measured(spec, tmp_path, capsys):
    opts = ("MODEL.IFF.AGGREGATOR", "AverageAggregator")
    assert main(["doctor", spec, *detector(tmp_path, *opts)]) == 1
    out = capsys.readouterr().out
    assert "[alignment] the alignment was not measured: the model's aggregator does not" in out
    assert "[classes] classes without a box" in out


def test_weights_need_a_config(spec, capsys):
    assert main(["doctor", spec, "--weights", "x.pth"]) == 2
    assert "--weights are of a detector: add its --config-file" in capsys.readouterr().err
