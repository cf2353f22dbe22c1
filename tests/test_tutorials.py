"""The tutorials that test_tutorial.py and test_readme.py leave: run as they are written.

What makes a run a matter of seconds is appended to its line; everything else is as on the page.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from test_tutorial import code_blocks
from toy_models import TINY
from video_runs import make_frames, write_frames
from zoo_server import SMALL

from iff_detectron2.data.datasets import builtin
from iff_detectron2.engine import load_config
from iff_detectron2_cli.main import main

ROOT = Path(__file__).parents[1]
QUICK = [
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0"),
    *("INPUT.MIN_SIZE_TRAIN", "(48,)", "INPUT.MIN_SIZE_TEST", "48", "TEST.VIDEO.NUM_REFS", "2"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "20", "MODEL.DEVICE", "cpu"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Return a checkout that may be written to."""
    for name in ("train_net.py", "configs", "iff_detectron2", "kernels"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return tmp_path


def lines(page: str) -> list[list[str]]:
    """Words of the commands of the first block of a page."""
    text = next(text for language, text in code_blocks(ROOT / "docs" / page) if language == "bash")
    typed = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    return [words for words in typed if words]


@pytest.mark.slow
def test_adapt_without_labels(folder: Path, zoo_server, clean_catalogs) -> None:
    for number in range(2):
        write_frames(folder / f"my_videos/{number}", make_frames(12, seed=number))
    write_frames(folder / "my_video.mp4", make_frames(5))  # a folder reads as a file does
    small = [*SMALL, *QUICK, "TEST.EVAL_PERIOD", "0"]
    verbs = []
    for words in lines("adapt.md"):
        assert words.pop(0) == "iff-detectron2"
        assert main([*words, *small]) == 0, words
        verbs.append(words[0])
    assert verbs == ["adapt", "predict"]
    assert (folder / "output/adapted/adapted.yaml").is_file()


@pytest.mark.slow
def test_from_the_bare_tree_of_imagenet_to_training(
    folder: Path, tiny_vid, monkeypatch, fresh_builtins, capsys
) -> None:
    root = tiny_vid(lengths=(5, 6), stills=2)
    for name in ("Data", "Annotations"):
        (root / name / "VID/val").mkdir()
        (root / name / "VID/train/video_0").rename(root / name / "VID/val/video_0")
    for path in (root / "ImageSets").iterdir():
        path.unlink()
    monkeypatch.setattr(builtin, "__file__", str(folder / "package/data/datasets/builtin.py"))
    ran = []
    for words in lines("imagenet_vid.md"):
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            assert value == "/path/to/datasets"
            monkeypatch.setenv(name, str(root.parent))
            continue
        words = [os.path.expandvars(word) for word in words]
        if words[0] == "python":
            assert words[-2:] == ["--num-gpus", "4"]  # there are none
            sys.argv = [*words[1:-2], *map(str, TINY), *QUICK, "MODEL.WEIGHTS", ""]
            sys.argv += [
                "MODEL.ALLOW_MISSING_WEIGHTS",
                "True",
            ]  # the backbone of ImageNet is not downloaded
            runpy.run_path(words[1], run_name="__main__")
            ran.append(words[1])
            continue
        assert words[0] == "iff-detectron2"
        # The doctor finds that this tree is not the released one.
        assert main(words[1:]) in ((0, 1) if words[1] == "doctor" else (0,)), words
        ran.append(words[1])
    assert ran == ["index", "doctor", "doctor", "doctor", "train_net.py"]
    assert list(folder.glob("output/**/model_final.pth"))


def test_the_config_of_the_tutorial_of_detectors(folder: Path) -> None:
    (text,) = [t for kind, t in code_blocks(ROOT / "docs/tutorial_detector.md") if kind == "yaml"]
    name = re.match(r"# (\S+\.yaml)\n", text)
    assert name
    base = ROOT / "projects/FasterRCNN/iff_faster_rcnn_FPN.yaml"
    (folder / name[1]).write_text(text.replace("path/to/your_config.yaml", str(base)))
    cfg = load_config(name[1])
    assert cfg.MODEL.META_ARCHITECTURE == "VideoGeneralizedRCNN"
    assert cfg.MODEL.IFF.FLOW.LEVEL == "p4"
    assert cfg.MODEL.IFF.FREEZE_DETECTOR


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_python_of_a_page_is_python(page: Path) -> None:
    for language, text in code_blocks(page):
        if language == "python":
            compile(text, f"a block of {page.name}", "exec")
            for line in re.findall(
                r"^(?:from iff_detectron2|import iff_detectron2).*$", text, re.M
            ):
                if not line.endswith("("):
                    exec(line, {})
