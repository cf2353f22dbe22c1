"""The pages in docs/: whole, linked, and their reference made from the code."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.config import CfgNode, get_cfg

from iff_detectron2 import add_iff_config
from iff_detectron2_cli.main import VERBS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted({*DOCS.glob("*.md"), *ROOT.glob("*.md")})


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Return dev/reference.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "dev/reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_every_page_is_in_the_tree_of_the_site():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    entries = {
        line
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.S)
        for line in block.splitlines()
        if line and not line.startswith(":")
    }
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= entries


def leaves(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def test_every_key_has_a_row_with_its_default(reference):
    before = get_cfg()
    after = before.clone()
    add_iff_config(after)
    old, new = leaves(before), leaves(after)
    added = {key: value for key, value in new.items() if key not in old}
    rows: dict[str, str] = {}
    for names, defaults, text in re.findall(
        r"^\| (`[^|]*`) \| ([^|]*) \| (.*) \|$", reference.config_page(), re.M
    ):
        assert text.strip()
        rows |= dict(zip(names.split("<br>"), defaults.split("<br>"), strict=True))
    assert rows == {
        f"`{key}`": '`""`' if value == "" else f"`{value}`" for key, value in added.items()
    }


def test_a_key_without_a_comment_is_told(reference):
    source = "def add(cfg):\n    # One.\n    cfg.A.B = 1\n\n    cfg.A.C = 2\n"
    with pytest.raises(ValueError, match=r"line 5: A\.C has no comment"):
        reference.config_entries(source)


def test_a_comment_holds_for_the_keys_below_it(reference):
    source = (
        "def add(cfg):\n    # --- Head -----\n    cfg.A = CN()\n    # One\n    # and two.\n"
        "    cfg.A.B = 1\n    cfg.A.C = 2\n    # Three.\n    cfg.A.D = 3\n"
    )
    entries = [(e.section, e.text, e.keys) for e in reference.config_entries(source)]
    assert entries == [("Head", "One and two.", ["A.B", "A.C"]), ("Head", "Three.", ["A.D"])]


def test_every_verb_has_its_help(reference):
    page = reference.command_page()
    assert re.findall(r"^## (\w+)$", page, re.M) == list(VERBS)
    assert page.count("usage: iff-detectron2 ") == len(VERBS)


def test_every_room_with_public_names_is_in_the_reference(reference):
    rooms = {
        path.parent.name
        for path in (ROOT / "iff_detectron2").glob("*/__init__.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert rooms <= set(reference.API)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the site needs the extra `docs`")
    pytest.importorskip("furo", reason="the site needs the extra `docs`")
    pytest.importorskip("myst_parser", reason="the site needs the extra `docs`")
    build = ["-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "html")]
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", *build], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert (tmp_path / "html/reference/api_layers.html").is_file()
