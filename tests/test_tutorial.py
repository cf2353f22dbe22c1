"""docs/tutorial_own_data.md, executed from its own code blocks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial_own_data.md"

# What makes the training a matter of seconds; everything else is as on the page.
QUICK = {
    "SOLVER.MAX_ITER": "2",
    "SOLVER.IMS_PER_BATCH": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "TEST.VIDEO.NUM_REFS": "2",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "20",
}


# The commands of this environment, whatever is on the path.
COMMANDS = {
    "python": [sys.executable],
    "iff-detectron2": [sys.executable, "-m", "iff_detectron2_cli"],
}


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of all fenced blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def run_command(line: str) -> str:
    words = [part for word in shlex.split(line) for part in COMMANDS.get(word, [word])]
    if "--config-file" in words:
        words += [part for item in QUICK.items() for part in item]
    result = subprocess.run(
        words,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("clean_catalogs")
def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in ("train_net.py", "configs", "iff_detectron2", "kernels"):
        (tmp_path / name).symlink_to(ROOT / name)  # a checkout that the test may write to
    monkeypatch.chdir(tmp_path)
    executed = []
    printed = {}
    for language, text in code_blocks(PAGE):
        if language == "python":
            exec(compile(text, f"{PAGE.name}, block {len(executed)}", "exec"), {})
        elif language == "text":
            continue  # what a folder or a config holds, shown and not run
        elif language == "yaml":
            name = re.match(r"# (\S+\.yaml)\n", text)
            assert name, "a config on the page begins with its file name"
            Path(name[1]).write_text(text)
        else:
            assert language == "bash"
            printed |= {line: run_command(line) for line in text.strip().splitlines()}
        executed.append(language)
    assert {"python", "yaml", "bash"} <= set(executed)

    assert "45 labelled frames, 45 boxes, classes ['ball']" in capsys.readouterr().out
    # Small frames are drawn enlarged, by whole numbers.
    assert cv2.imread("my_video/look.png").shape == (3 * 6 * 112, 3 * 160, 3)
    assert [len(list(Path("my_video", s).glob("*.xml"))) for s in ("train", "test")] == [3, 1]
    for name, videos in (("my_train", 3), ("my_test", 1)):
        if name not in DatasetCatalog:
            continue
        index = MetadataCatalog.get(name).frame_index()
        assert [len(frames) for frames in index.values()] == [45] * videos
    results = json.loads(Path("output/my_video/inference/my_test/results.json").read_text())
    assert results["num_frames"] == 15
    assert 0 <= results["bbox"]["mAP50"] <= 100
    assert Path("output/my_video/model_final.pth").is_file()
    predicted = Path("output/my_video/clip3")
    assert (predicted / "annotated.webm").is_file()
    assert isinstance(json.loads((predicted / "predictions.json").read_text()), list | dict)
    tables = [text for line, text in printed.items() if line.startswith("cat ")]
    assert ["15 frames, 15 boxes to find" in table for table in tables] == [True]


def test_pages_about_data_link_to_what_exists() -> None:
    for page in (PAGE, ROOT / "docs/datasets.md"):
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
        assert links
        files = re.findall(r"(?:configs|tests)/[\w./-]+\w\.(?:yaml|py)", text)
        missing = [link for link in links if not (page.parent / link).exists()]
        assert not missing + [file for file in files if not (ROOT / file).exists()]


def test_the_table_of_formats_is_complete() -> None:
    """Every kind of spec has a row with exactly its form."""
    from iff_detectron2.data.datasets import SPEC_FORMS

    text = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"`NAME=(\w+):(\S+?)`", text))
    assert set(rows) == set(SPEC_FORMS)
    for kind, form in SPEC_FORMS.items():
        assert rows[kind].count("[") == form.form.count("[")
        words = re.findall(r"\[@(\w+)\]", form.form)
        assert re.findall(r"\[@(\w+)\]", rows[kind]) == words
