"""The package as it is installed: complete, and working without the repository."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from iff_detectron2 import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed():
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for folder in ("iff_detectron2", "iff_detectron2_cli")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert listed - there == {"iff_detectron2.kernels", "iff_detectron2.configs"}
    assert there <= listed


def test_what_is_said_of_the_project_agrees():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    # What version 1.2.0 of the format asks for.
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == __version__
    assert citation["license"] == project["license"]["text"]
    assert citation["preferred-citation"]["authors"][0]["family-names"] == "Jin"
    extras = project["optional-dependencies"]
    table = (ROOT / "docs/getting_started.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)` \| ", table, re.M)) == set(extras)
    # `make test` leaves nothing out for want of a package.
    (own,) = (word for word in extras["dev"] if word.startswith("iff_detectron2["))
    named = set(own.partition("[")[2].rstrip("]").split(","))
    assert named == set(extras) - {"dev", "bench", "detectron2"}


def test_links_of_the_published_readme(tmp_path):
    spec = importlib.util.spec_from_file_location("publish", ROOT / "dev/publish_links.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "![A](docs/a.webp) [b](docs/b.md#c) [d](https://e.org) [f](#g) [h](LICENSE)"
    assert module.absolute(text, "https://host/o/n", "abc") == (
        "![A](https://host/o/n/raw/abc/docs/a.webp) [b](https://host/o/n/blob/abc/docs/b.md#c) "
        "[d](https://e.org) [f](#g) [h](https://host/o/n/blob/abc/LICENSE)"
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = module.absolute(readme, "https://host/o/n", "abc")
    assert not re.findall(r"\]\((?!https?://|#)", made)


INSTALLED = """
import pathlib, sys
import iff_detectron2, iff_detectron2.kernels
from iff_detectron2 import model_zoo
from iff_detectron2.data.datasets import datasets_root
from iff_detectron2_cli.main import main

site = pathlib.Path(sys.argv[1])
for name in ("MovingShapes/iff_net_C", "ImageNetVID/iff_net_H_R_101_6dcn.yaml"):
    assert pathlib.Path(model_zoo.get_config_file(name)).is_relative_to(site), name
    model_zoo.get_config(name)
assert pathlib.Path(iff_detectron2.__file__).is_relative_to(site)
assert pathlib.Path(iff_detectron2.kernels.__file__).is_relative_to(site)
assert (site / "iff_detectron2/py.typed").is_file()
(site / "datasets").mkdir()  # as the library of that name has it
assert datasets_root() == pathlib.Path("datasets")
try:
    main(["--version"])
except SystemExit as end:
    assert end.code == 0
"""


@pytest.mark.slow
def test_the_wheel_works_without_the_repository(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("iff_detectron2", "iff_detectron2_cli", "kernels", "configs"):
        (source / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run([str(word) for word in build], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [*pip, "install", "--no-deps", "--target", site, wheel]
    subprocess.run([str(word) for word in install], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("DETECTRON2_DATASETS", None)
    result = subprocess.run(
        [sys.executable, "-c", INSTALLED, str(site)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("iff-detectron2 ")


IMPORTS = (
    "iff_detectron2",
    "iff_detectron2.deploy, iff_detectron2.engine, iff_detectron2.evaluation",
    "iff_detectron2.export, iff_detectron2.inference.adapt, iff_detectron2_cli.main",
)


@pytest.mark.parametrize("modules", IMPORTS)
def test_an_import_warns_of_nothing(modules):
    command = [sys.executable, "-W", "error", "-c", f"import {modules}"]
    subprocess.run(command, check=True, cwd=ROOT)
