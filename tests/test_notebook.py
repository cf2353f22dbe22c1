"""The notebook of the tutorial: that of the page, and it runs in a kernel."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from test_tutorial import QUICK

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/tutorial_own_data.ipynb"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """Return dev/notebook.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("notebook_maker", ROOT / "dev/notebook.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_that_of_the_page(maker):
    made = maker.notebook(maker.PAGE.read_text(encoding="utf-8"))
    behind = "the page has changed: python dev/notebook.py"
    assert json.loads(NOTEBOOK.read_text(encoding="utf-8")) == made, behind


def test_blocks_become_cells(maker):
    page = (
        "# Head\n\n```bash\nls \\\n  -l\npwd\n```\n\nText.\n\n```text\nshown\n```\n\n"
        "```yaml\n# a.yaml\nB: 1\n```\n"
    )
    cells = [(c["cell_type"], "".join(c["source"])) for c in maker.notebook(page)["cells"]]
    assert cells == [
        ("markdown", "# Head"),
        ("code", "%cd .."),
        ("code", "!ls    -l\n!pwd"),
        ("markdown", "Text."),
        ("markdown", "```text\nshown\n```"),
        ("code", "%%writefile a.yaml\n# a.yaml\nB: 1"),
    ]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")
    pytest.importorskip("ipykernel", reason="needs the extra `notebook`")
    for name in ("train_net.py", "configs", "iff_detectron2", "iff_detectron2_cli", "kernels"):
        (tmp_path / name).symlink_to(ROOT / name)  # a checkout that the test may write to
    (tmp_path / "docs").mkdir()
    book = nbformat.read(NOTEBOOK, as_version=4)
    quick = " ".join(f"{key} {value}" for key, value in QUICK.items())
    for cell in book.cells:
        if cell.cell_type == "code" and "--config-file" in cell.source:
            cell.source = "\n".join(f"{line} {quick}" for line in cell.source.splitlines())
    # `python` and `iff-detectron2` of this environment, whatever is on the path.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, words in (("python", ""), ("iff-detectron2", " -m iff_detectron2_cli")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    client = nbclient.NotebookClient(
        book, timeout=600, resources={"metadata": {"path": str(tmp_path / "docs")}}
    )
    client.execute()
    printed = [
        output.text
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    ]
    assert any("45 labelled frames, 45 boxes, classes ['ball']" in text for text in printed)
    assert any("15 frames, 15 boxes to find" in text for text in printed)
    # A command that fails ends no cell; what the last one writes is there only if all went well.
    assert (tmp_path / "output/my_video/clip3/annotated.webm").is_file()
