"""The verb `synth`."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import pytest

from iff_detectron2.data.moving_shapes import MovingShapesOptions
from iff_detectron2_cli import synth

SMALL = (
    *("--train-videos", "1", "--val-videos", "1", "--frames", "4"),
    *("--size", "96x64", "--objects", "1", "--workers", "1"),
)


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    synth.add_arguments(parser)
    return synth.run(parser.parse_args(argv))


def test_options_reach_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert _run(str(out), *SMALL, "--seed", "7", "--severity", "0.5", "--val-frames", "3") == 0
    assert json.loads((out / "moving_shapes.json").read_text())["options"] == {
        "seed": 7,
        "num_train_videos": 1,
        "num_val_videos": 1,
        "num_frames": 4,
        "num_val_frames": 3,
        "size": [96, 64],
        "max_objects": 1,
        "severity": 0.5,
    }
    printed = capsys.readouterr().out
    assert "train: 1 videos, 4 frames" in printed
    assert str(out / "contact_sheet.png") in printed


def test_second_start_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(tmp_path), *SMALL) == 0
    before = (tmp_path / "moving_shapes.json").stat().st_mtime_ns
    capsys.readouterr()
    assert _run(str(tmp_path), *SMALL) == 0
    assert "already holds this MovingShapes set" in capsys.readouterr().out
    assert (tmp_path / "moving_shapes.json").stat().st_mtime_ns == before


def test_other_options_need_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(tmp_path), *SMALL) == 0
    assert _run(str(tmp_path), *SMALL, "--seed", "1") == 2
    error = capsys.readouterr().err
    assert "made with other options (seed: 0, not 1)" in error
    assert "--overwrite" in error
    assert _run(str(tmp_path), *SMALL, "--seed", "1", "--overwrite") == 0
    assert json.loads((tmp_path / "moving_shapes.json").read_text())["options"]["seed"] == 1


def test_bad_values_are_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(str(tmp_path), "--severity", "3") == 2
    assert "severity must be within [0, 2], got 3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _run(str(tmp_path), "--size", "224")
    assert "expected WIDTHxHEIGHT such as 224x160, got '224'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_the_set_has_its_flag_and_default() -> None:
    parser = argparse.ArgumentParser()
    synth.add_arguments(parser)
    parsed = vars(parser.parse_args(["somewhere"]))
    for option in fields(MovingShapesOptions):
        assert parsed[option.name] == option.default
        assert f"{option.metadata['flag']} " in parser.format_help()
