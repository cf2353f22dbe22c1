"""The verb `index`: from a bare tree to datasets that train."""

from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog

from iff_detectron2.data import register_imagenet_vid
from iff_detectron2_cli.main import main

LISTS = ("VID_train_15frames", "VID_val_videos", "DET_train_30classes")


@pytest.fixture
def bare_tree(tiny_vid):
    """Return a tree with videos of train and val and stills, and no lists."""
    root = tiny_vid(lengths=(5, 30), stills=2)
    for name in ("Data", "Annotations"):
        folder = root / name / "VID"
        (folder / "val").mkdir()
        (folder / "train/video_0").rename(folder / "val/video_0")
    for path in (root / "ImageSets").iterdir():
        path.unlink()
    (root / "ImageSets").rmdir()
    return root


def test_lists_of_a_bare_tree_can_be_registered(bare_tree, clean_catalogs, capsys) -> None:
    assert main(["index", str(bare_tree)]) == 0
    out = capsys.readouterr().out
    assert "VID_train_15frames.txt: 15 lines, 1 videos (written)" in out
    assert "VID_val_videos.txt: 1 lines, 1 videos, 5 frames (written)" in out
    assert "DET_train_30classes.txt: 2 lines, 2 different images (written)" in out
    assert "the released list has 57834 lines, 3862 videos" in out
    sizes = {}
    for image_set in LISTS:
        register_imagenet_vid(image_set, bare_tree, image_set)
        sizes[image_set] = len(DatasetCatalog.get(image_set))
    assert sizes == dict(zip(LISTS, (15, 5, 2), strict=True))
    assert [d["frame_index"] for d in DatasetCatalog.get(LISTS[0])] == list(range(1, 30, 2))


def test_lists_that_say_the_same_stay(bare_tree, capsys) -> None:
    assert main(["index", str(bare_tree)]) == 0
    path = bare_tree / "ImageSets/DET_train_30classes.txt"
    path.write_text(path.read_text().rstrip("\n"))  # as released
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert main(["index", str(bare_tree)]) == 0
    assert capsys.readouterr().out.count("(was there)") == 3
    assert path.stat().st_mtime_ns == before


def test_other_lists_are_not_replaced_unasked(bare_tree, capsys) -> None:
    path = bare_tree / "ImageSets/VID_val_videos.txt"
    path.parent.mkdir()
    path.write_text("val/mine 1 0 9\n")
    assert main(["index", str(bare_tree)]) == 2
    assert "VID_val_videos.txt is there and says something else" in capsys.readouterr().err
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing was written
    assert main(["index", str(bare_tree), "--only", "train"]) == 0
    assert path.read_text() == "val/mine 1 0 9\n"
    assert main(["index", str(bare_tree), "--overwrite"]) == 0
    assert path.read_text() == "val/video_0 1 0 5\n"


def test_wrong_folder_ends_with_a_sentence(tmp_path, capsys) -> None:
    assert main(["index", str(tmp_path)]) == 2
    assert "has none of Data/VID/train, Data/VID/val" in capsys.readouterr().err
