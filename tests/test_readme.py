"""What the README promises exists; its blocks and the tutorial of video run as written."""

import json
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import cv2
import pytest
from detectron2.modeling import META_ARCH_REGISTRY
from test_tutorial import code_blocks
from toy_models import TINY
from video_runs import make_frames
from zoo_server import SMALL

from iff_detectron2.data.datasets import builtin
from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2_cli import demo
from iff_detectron2_cli.main import VERBS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_and_pictures_exist():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_named_files_and_folders_exist():
    pages = [README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))]
    name = r"(?:configs|tests|benchmarks|dev)/[\w./*-]+\w\.(?:yaml|py)"
    files = re.findall(name, "\n".join(pages))
    assert files
    assert not [name for name in files if not list(ROOT.glob(name))]


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"@[A-Z]+@|TODO|TBD", README)


def test_the_table_names_every_verb():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", README, re.M)
    named = [verb for row in rows for verb in re.findall(r"`(\w+)`", row)]
    assert sorted(set(VERBS) - set(named)) == []


def test_the_map_names_every_package():
    packages = {path.parent.name for path in (ROOT / "iff_detectron2").glob("*/__init__.py")}
    tree = (ROOT / "docs/house.md").read_text(encoding="utf-8")
    assert not [name for name in packages if f"{name}/" not in tree]


# What makes a training a matter of seconds; everything else is as on the page.
QUICK = [
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("INPUT.MIN_SIZE_TRAIN", "(48,)", "INPUT.MIN_SIZE_TEST", "48"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "20", *map(str, TINY)),
]


class Reader:
    """Somebody who types what the page says, from a fresh clone on."""

    def __init__(self) -> None:
        self.active = False
        self.verbs: list[str] = []

    def type(self, line: str) -> None:
        """Run one line; what trains or detects gets the overrides that make it quick."""
        words = shlex.split(line, comments=True)
        if not words:
            return
        if words[0] == "source":
            assert words[1:] == [".venv/bin/activate"]
            self.active = True
        elif words[0] == "cd":
            os.chdir(words[1])
        else:
            assert self.active, f"the environment is not active: {line}"
            name = "train_net.py" if words[0] == "python" else words[1]
            self.verbs.append(name)
            quick = SMALL if "COCO-Detection" in line else QUICK
            words += quick if "--config-file" in words else ()
            if words[0] == "python":
                sys.argv = words[1:]
                runpy.run_path(words[1], run_name="__main__")
            else:
                assert words[0] == "iff-detectron2"
                assert main(words[1:]) == 0, line


@pytest.fixture
def clone(tmp_path: Path, monkeypatch, fresh_builtins, mot_sequence) -> Path:
    """Make a checkout as `make demo` leaves it, and the data of a reader."""
    for name in ("train_net.py", "configs", "iff_detectron2", "kernels", "projects"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.setattr(builtin, "__file__", str(tmp_path / "package/data/datasets/builtin.py"))
    generate_moving_shapes(
        "datasets/moving_shapes",
        num_train_videos=2,
        num_val_videos=1,
        num_frames=6,
        num_workers=1,
        progress=False,
    )
    demo._train("MovingShapes/iff_net_C", Path("output/demo/training"), QUICK)
    writer = cv2.VideoWriter("my_video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (72, 48))
    for frame in make_frames(5):
        writer.write(frame)
    writer.release()
    Path("path/to").mkdir(parents=True)
    Path("path/to/sequence").symlink_to(mot_sequence(length=500))
    return tmp_path


def run_blocks(page: Path, clone: Path, zoo_server, reader: Reader) -> None:
    """Run all blocks of a page, each in a new terminal."""
    for language, text in code_blocks(page):
        os.chdir(clone)
        if language == "python":
            # No override makes these small.
            zoo_server.opts = []
            zoo_server.forget()
            exec(compile(text, f"a block of {page.name}", "exec"), {})
        else:
            assert language == "bash"
            for line in text.replace("\\\n", " ").splitlines():
                reader.type(line)


@pytest.mark.slow
def test_the_tutorial_of_video_runs_as_it_is_written(clone: Path, zoo_server, capsys) -> None:
    reader = Reader()
    reader.active = True
    run_blocks(ROOT / "docs/tutorial_video.md", clone, zoo_server, reader)
    assert reader.verbs == ["predict", "predict"]
    assert (clone / "output/zoo/annotated.webm").is_file()
    said = capsys.readouterr().out
    assert "per second: " in said
    assert "5 frames are done already" in said
    assert re.search(r"\d+ boxes; the first: \[", said)
    assert re.search(r"\d+ tracks; the longest: \[", said)


@pytest.mark.slow
def test_python_of_other_pages_runs(clone: Path) -> None:
    ran = []
    for name in ("getting_started", "training", "tutorial_detector"):
        for language, text in code_blocks(ROOT / f"docs/{name}.md"):
            if language == "python":
                # The net of the clone is the small one.
                text = text.replace('model_final.pth"]', 'model_final.pth", *QUICK]')
                known = {"frames": make_frames(3), "QUICK": QUICK}
                exec(compile(text, f"a block of {name}.md", "exec"), known)
                ran.append(name)
    assert len(ran) == 3
    assert META_ARCH_REGISTRY.get("VideoMyDetector")


@pytest.mark.slow
def test_the_blocks_run_as_they_are_written(clone: Path, zoo_server) -> None:
    reader = Reader()
    run_blocks(ROOT / "README.md", clone, zoo_server, reader)
    assert {"predict", "train_net.py", "evaluate", "postprocess"} <= set(reader.verbs)
    assert len(set(zoo_server.asked)) == 1
    for folder in ("zoo", "my_video"):
        found = json.loads((clone / "output" / folder / "predictions.json").read_text())
        assert isinstance(found, list)
    assert (clone / "output/zoo/tracks.csv").is_file()
    inference = clone / "output/demo/training/inference/moving_shapes_val"
    assert list(inference.glob("*/report.html"))
