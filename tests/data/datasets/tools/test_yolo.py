"""YOLO's text files in their two layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from iff_detectron2.data import register_yolo

pytestmark = pytest.mark.usefixtures("clean_catalogs")

# 20 x 24 pixels at (4, 6) of 64 x 48
LINE = f"{14 / 64} {18 / 48} {20 / 64} {24 / 48}"


@pytest.fixture
def image(tmp_path: Path):
    def write(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / name)

    return write


@pytest.fixture
def ultralytics(image, tmp_path: Path) -> Path:
    """Frames 1 to 4, of which 1, 2 and 4 have a file of labels."""
    image(*(f"images/val/clip_{n}.jpg" for n in range(1, 5)))
    labels = tmp_path / "labels/val"
    labels.mkdir(parents=True)
    (labels / "clip_1.txt").write_text(f"1 {LINE} 7\n0 {LINE} -1\n")
    (labels / "clip_2.txt").write_text(f"1 {LINE}\n")
    (labels / "clip_4.txt").write_text("")
    (tmp_path / "data.yaml").write_text("val: images/val\nnc: 2\nnames: ['dog', 'cat']\n")
    return tmp_path


def read(root: Path, split: str | None = None, **options) -> list[dict]:
    register_yolo("set", root, split, **options)
    return DatasetCatalog.get("set")


def test_ultralytics(ultralytics: Path) -> None:
    dicts = read(ultralytics)
    assert [(d["frame_number"], d["frame_index"], d["video_length"]) for d in dicts] == [
        (1, 0, 4),
        (2, 1, 4),
        (4, 3, 4),
    ]
    assert [
        [(a["category_id"], a.get("track_id"), a["bbox"]) for a in d["annotations"]] for d in dicts
    ] == [
        [(1, 7, [4, 6, 24, 30]), (0, None, [4, 6, 24, 30])],
        [(1, None, [4, 6, 24, 30])],
        [],
    ]
    assert MetadataCatalog.get("set").thing_classes == ["dog", "cat"]


def test_darknet_as_cvat_exports_it(image, tmp_path: Path) -> None:
    image(*(f"obj_train_data/frame_{n:06d}.PNG" for n in range(3)))
    (tmp_path / "obj.names").write_text("dog\ncat\n")
    (tmp_path / "obj.data").write_text("classes = 2\nnames = data/obj.names\n")
    (tmp_path / "train.txt").write_text(
        "".join(f"data/obj_train_data/frame_{n:06d}.PNG\n" for n in range(3))
    )
    for number in range(3):
        text = f"0 {LINE}\n" * (number == 1)
        (tmp_path / f"obj_train_data/frame_{number:06d}.txt").write_text(text)
    dicts = read(tmp_path)
    assert [len(d["annotations"]) for d in dicts] == [0, 1, 0]
    assert dicts[1]["annotations"][0]["bbox"] == [4, 6, 24, 30]


def test_roboflow_s_paths_and_names(image, tmp_path: Path) -> None:
    names = [f"clip_mp4-{n:04d}_jpg.rf.{'ab1' * 10}{n:02d}" for n in (5, 6)]
    image(*(f"train/images/{name}.jpg" for name in names))
    (tmp_path / "train/labels").mkdir()
    for name in names:
        (tmp_path / f"train/labels/{name}.txt").write_text(f"0 {LINE}\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnames: {0: ball}\n")
    dicts = read(tmp_path, "train")
    assert [(d["video_id"], d["frame_number"]) for d in dicts] == [
        ("train/images/clip_mp4", 5),
        ("train/images/clip_mp4", 6),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"2 {LINE}", r"clip_2\.txt:1: class 2 has no name; there are 2"),
        (f"0 {LINE} 0.93", "the sixth column must be a track id, got '0.93'"),
        (f"0 {LINE} 0.1 0.2", "got 7 columns, which is polygons or key points"),
        ("0 0.1 0.2", "got 3 columns, which is no box"),
        ("0 14 18 20 24", "are parts of the image's, from 0 to 1"),
        ("0 a b c d", "a column must be a number, got 'a'"),
    ],
)
def test_malformed_lines(ultralytics: Path, line: str, message: str) -> None:
    (ultralytics / "labels/val/clip_2.txt").write_text(line)
    with pytest.raises(ValueError, match=message) as caught:
        read(ultralytics)
    assert "clip_2.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a", r"data\.yaml is not valid YAML"),
        ("- a", r"data\.yaml must hold a table with 'names', got list"),
        ("val: images/val\nnames: 5", r"data\.yaml: 'names' must name the classes 0, 1, .* got 5"),
        ("val: images/val\nnames: {1: a}", "'names' must name the classes"),
        ("val: /etc\nnames: [a]", "must be a relative path"),
        ("names: [a]", "has no 'train'"),
        ("val: !!python/object/apply:os.system [ls]\nnames: [a]", "is not valid YAML"),
    ],
)
def test_malformed_yaml(ultralytics: Path, text: str, message: str) -> None:
    (ultralytics / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(ultralytics)
