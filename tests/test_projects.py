"""The worked examples run as their files say, on a small generated set."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from iff_detectron2.data.moving_shapes import generate_moving_shapes

ROOT = Path(__file__).parents[1]
CONFIGS = sorted([*ROOT.glob("projects/*/*.yaml"), *ROOT.glob("projects/*/iff_*.py")])


def command(config: Path) -> list[str]:
    """Return the command that the head of a config names, without the interpreter."""
    lines = config.read_text(encoding="utf-8").splitlines()[:5]
    (line,) = [line for line in lines if "--config-file" in line]
    interpreter, *rest = line.removeprefix("# ").split()
    assert interpreter == "python"
    return rest


def test_every_project_says_what_it_shows_and_how_to_run_it():
    folders = [path for path in ROOT.glob("projects/*") if path.is_dir()]
    assert {folder.name for folder in folders} == {config.parent.name for config in CONFIGS}
    assert len(folders) >= 4
    for config in CONFIGS:
        script, option, file = command(config)
        assert (option, ROOT / file) == ("--config-file", config)
        assert (ROOT / script).is_file()
        readme = (config.parent / "README.md").read_text(encoding="utf-8")
        assert f"python {script} --config-file {file}" in readme


def test_the_package_knows_nothing_of_projects():
    names = [path.stem for path in ROOT.glob("projects/*/*.py") if path.stem != "train_net"]
    texts = {p: p.read_text(encoding="utf-8") for p in ROOT.glob("iff_detectron2/**/*.py")}
    assert not [(p.name, n) for n in names for p, text in texts.items() if f"import {n}" in text]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    generate_moving_shapes(
        folder / "moving_shapes",
        num_train_videos=2,
        num_val_videos=1,
        num_frames=4,
        num_workers=1,
        progress=False,
    )
    # Frames without objects are tested, too, and serve as neighbours.
    (xml,) = folder.glob("moving_shapes/Annotations/VID/val/*/000002.xml")
    text = re.sub(r"<object>.*</object>", "", xml.read_text(), flags=re.DOTALL)
    xml.write_text(text)
    return folder


NEEDS = {"ViTDet": "timm", "QueryDetector": "scipy"}


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.parent.name)
def test_two_iterations_and_an_evaluation(config, datasets, tmp_path):
    if package := NEEDS.get(config.parent.name):
        pytest.importorskip(package, reason=f"this project needs {package}, as its README says")
    lazy = config.suffix == ".py"
    options = (
        ["train.max_iter=2", f"train.output_dir={tmp_path}"]
        if lazy
        else ["SOLVER.MAX_ITER", "2", "OUTPUT_DIR", str(tmp_path)]
    )
    result = subprocess.run(
        [sys.executable, *command(config), *options],
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(datasets), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any("loss_trl" in row for row in rows)
    assert (tmp_path / "model_final.pth").is_file()
    (results,) = tmp_path.glob("inference/**/results.json")
    metrics = json.loads(results.read_text())
    assert metrics["num_frames"] == 5
    assert 0 <= metrics["bbox"]["mAP50"] <= 100
    if config.parent.name == "MaskRCNN":
        assert any("segm/AP50" in row for row in rows)
