"""What the README promises exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_and_pictures_exist():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_named_files_and_folders_exist():
    files = re.findall(r"(?:configs|tests|benchmarks|dev)/[\w./*-]+\w\.(?:yaml|py)", README)
    assert files
    assert not [name for name in files if not list(ROOT.glob(name))]


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"@[A-Z]+@|TODO|TBD", README)


def test_the_map_names_every_package():
    packages = {path.parent.name for path in (ROOT / "iff_detectron2").glob("*/__init__.py")}
    tree = README.partition("## Map of the repository")[2]
    assert not [name for name in packages if f"{name}/" not in tree]
