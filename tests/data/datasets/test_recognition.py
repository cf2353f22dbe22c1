"""The format is told from the files, for every format that is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from format_writers import WRITERS, generate_split

from iff_detectron2.data import recognize, register_from_specs

pytestmark = pytest.mark.usefixtures("clean_catalogs")

# Formats whose files lie together, so that the folder of the images is found too.
TOGETHER = (
    *("video_files", "mot_challenge", "visdrone", "kitti_tracking", "cvat_mot", "yolo"),
    "label_studio",
)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return generate_split(tmp_path_factory.mktemp("generated"))


@pytest.mark.parametrize("format_name", WRITERS)
def test_every_format_is_told(split, tmp_path: Path, format_name: str) -> None:
    spec = WRITERS[format_name](split, tmp_path)
    labels = Path(spec.removesuffix("@annotated_only").removesuffix("@train").split("@")[-1])
    if format_name == "kitti_tracking" or ":" in str(labels):
        labels = tmp_path
    if format_name in ("cvat_video", "ua_detrac"):
        labels = sorted(labels.iterdir())[0]
    found = recognize(labels)
    assert found.partition(":")[0] == format_name
    if format_name in TOGETHER:
        register_from_specs([f"told={found}", f"known={spec.removesuffix('@annotated_only')}"])
        assert DatasetCatalog.get("told") == DatasetCatalog.get("known")


def test_the_layout_of_imagenet_vid(split, tiny_vid) -> None:
    assert recognize(split.root.parents[1]).startswith("moving_shapes:")
    root = tiny_vid()
    assert recognize(root) == f"imagenet_vid:{root}@VID_train_15frames"


def test_what_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="is in no format that is told by its files"):
        recognize(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        recognize(tmp_path / "nothing")
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=r"has 2 files that may be labels \(a\.json, b\.json\)"):
        recognize(tmp_path)
