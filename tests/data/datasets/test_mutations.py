"""Damaged label files: each reader ends in ValueError or OSError that names a file, or reads on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from damage import NUM_INPUTS, check_damage
from detectron2.data import DatasetCatalog, MetadataCatalog
from format_writers import WRITERS, Split, generate_split

from iff_detectron2.data import register_from_specs

pytestmark = [pytest.mark.usefixtures("clean_catalogs"), pytest.mark.slow]

FRAMES = 4

# Format -> the files that are damaged in turn, as found below its folder.
LABELS = {
    "burst": ("burst.json",),
    "coco_frames": ("coco.json",),
    "coco_vid": ("coco_vid.json",),
    "cvat_mot": ("task_0/gt/gt.txt", "task_0/gt/labels.txt"),
    "cvat_video": ("xml/0.xml",),
    "kitti_tracking": ("label_02/0000.txt",),
    "label_studio": ("export.json",),
    "mot_challenge": ("000/gt/gt.txt", "000/seqinfo.ini"),
    "ua_detrac": ("xml/MVI_0.xml",),
    "via_csv": ("via.csv",),
    "video_files": ("videos.json",),
    "visdrone": ("annotations/uav0000000.txt",),
    "yolo": ("labels/train/clip0_0000.txt", "data.yaml"),
    "youtube_vis": ("youtube_vis.json",),
}


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """One video, of which a few frames are labelled."""
    whole = generate_split(tmp_path_factory.mktemp("generated"))
    name = next(iter(whole.videos))
    dicts = [d for d in whole.dicts if d["video_id"] == name][:FRAMES]
    return replace(whole, dicts=dicts, videos={name: whole.videos[name]})


def check_reader(path: Path, spec: str, roots: Sequence[Path], count: int) -> None:
    """Read a file damaged in many ways, and put it back; errors name it, or what lies there."""

    def read() -> None:
        try:
            register_from_specs([f"set={spec}"])
            DatasetCatalog.get("set")
        finally:
            for catalog in (DatasetCatalog, MetadataCatalog):
                if "set" in catalog:
                    catalog.remove("set")

    check_damage(path, read, count, tuple(map(str, roots)))


def test_the_table_is_complete() -> None:
    assert set(LABELS) == set(WRITERS)


@NUM_INPUTS
@pytest.mark.parametrize("format_name", sorted(LABELS))
def test_every_reader(split: Split, tmp_path: Path, format_name: str, num_inputs: int) -> None:
    spec = WRITERS[format_name](split, tmp_path)
    files = LABELS[format_name]
    for file in files:  # a message names it, or the frame that it leads to
        roots = tmp_path, split.root
        check_reader(tmp_path / file, spec, roots, num_inputs // len(files))


@NUM_INPUTS
@pytest.mark.parametrize("kind", ["list", "xml"])
def test_the_layout_of_imagenet_vid(tiny_vid, kind: str, num_inputs: int) -> None:
    root: Path = tiny_vid(lengths=(3, 2), class_name="n02084071")
    path = root / "Annotations/VID/train/video_0/000001.xml"
    if kind == "list":
        path = root / "ImageSets/VID_val_videos.txt"
    check_reader(path, f"imagenet_vid:{root}@VID_val_videos", [root], num_inputs)
