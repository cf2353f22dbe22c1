"""R3, R4, R6: a folder that another process writes into, or that holds a run, is let alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from folder_owner import owned_by_another
from training_process import INSTANT
from video_runs import command, make_frames, write_frames

from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2_cli.main import main


@pytest.fixture
def owned(tmp_path) -> Iterator[tuple[Path, int]]:
    """Give a folder that another process owns, and the number of that process."""
    folder = tmp_path / "out"
    with owned_by_another(folder) as process:
        yield folder, process.pid


@pytest.fixture
def moving_shapes(tmp_path, monkeypatch, fresh_builtins) -> None:
    generate_moving_shapes(
        tmp_path / "datasets/moving_shapes",
        num_train_videos=1,
        num_val_videos=1,
        num_frames=4,
        size=(96, 64),
        num_workers=1,
        progress=False,
    )
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))


def train(folder: Path) -> int:
    return main(["train", "--config-file", str(INSTANT), "OUTPUT_DIR", str(folder)])


def assert_let_alone(folder: Path, before: set[str]) -> None:
    assert set(os.listdir(folder)) == before


@pytest.mark.parametrize("verb", ["synth", "predict", "train"])
def test_a_folder_that_is_in_use_gets_one_sentence(owned, tmp_path, moving_shapes, capsys, verb):
    folder, number = owned
    before = set(os.listdir(folder))
    if verb == "synth":
        code = main(["synth", str(folder), "--train-videos", "0", "--val-videos", "1"])
    elif verb == "predict":
        write_frames(tmp_path / "clip", make_frames(3))
        words = command(tmp_path, "--input", tmp_path / "clip", "--output", folder)
        code = main(["predict", *words])
    else:
        code = train(folder)
    assert code == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith(f"iff-detectron2 {verb}: ")
    assert f"in use by another process (process {number}" in sentence
    assert_let_alone(folder, before)


def test_a_training_is_not_overwritten_unasked(tmp_path, moving_shapes, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "last_checkpoint").write_text("model_final.pth")
    assert train(folder) == 2
    assert "go on with --resume" in capsys.readouterr().err.splitlines()[-1]
    assert_let_alone(folder, {"last_checkpoint"})
