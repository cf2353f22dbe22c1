"""The script that checks a detector: how it reads what it is asked to check."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from check_detector import main
from tried_detectors import TRIED, ZOO

README = Path(__file__).parents[1] / "projects" / "README.md"


def test_a_config_runs_no_code(tmp_path, capsys) -> None:
    trace = tmp_path / "ran"
    config = tmp_path / "c.yaml"
    config.write_text(f"OUTPUT_DIR: !!python/object/apply:pathlib.Path.touch [{trace}]\n")
    assert main([str(config)]) == 2
    assert "such a tag could run code" in capsys.readouterr().err
    assert not trace.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["COCO-Detection/faster_rcnn_R50_FPN_1x.yaml"], "did you mean COCO-Detection/"),
        (["RetinaNet", "MODEL.RETINANET.NUM_CLASES", "3"], "did you mean MODEL.RETINANET.NUM_CLA"),
        (["RetinaNet", "--import", "no_such_project"], "no_such_project"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, capsys) -> None:
    assert main(words) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_one_detector_or_all(capsys) -> None:
    for words in ([], ["RetinaNet", "--all"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "name a detector or a config, or else --all" in capsys.readouterr().err


def test_the_table_says_how_each_was_tried() -> None:
    rows = README.read_text(encoding="utf-8").splitlines()
    for detector, words in TRIED.items():
        assert f"| {detector} | `{words}` | 7 of 7 |" in rows


@pytest.mark.slow
@pytest.mark.parametrize("detector", ZOO)
def test_detectron2s_own_hold_in_all(detector, capsys) -> None:
    """The other styles are held by tests/modeling/test_foreign_detectors.py."""
    if detector.startswith("ViTDet"):
        pytest.importorskip("timm", reason="Detectron2's ViT needs timm")
    if ZOO[detector].partition(" ")[0].endswith(".py"):
        pytest.importorskip("detectron2.modeling.backbone.vit", reason="Detectron2 0.6 has none")
    lacking = main(shlex.split(ZOO[detector]))
    said = capsys.readouterr().out
    assert (lacking, said.count("yes")) == (0, 7), said
