"""The script that checks a detector: how it reads what it is asked to check."""

from __future__ import annotations

import pytest
from check_detector import main


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
