"""The written set: layout, determinism, motion shares, and what a second start does."""

from __future__ import annotations

import hashlib
import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import pytest

from iff_detectron2.data.datasets import register_imagenet_vid
from iff_detectron2.data.moving_shapes import (
    MOVING_SHAPES_CLASSES,
    MovingShapesOptions,
    find_complete,
    generate_moving_shapes,
)

Box = tuple[int, int, int, int]


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path below the root."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def read_tracks(video: Path) -> dict[int, dict[int, Box]]:
    """Boxes of a video's annotation folder: track -> frame -> box."""
    tracks: dict[int, dict[int, Box]] = defaultdict(dict)
    for path in sorted(video.iterdir()):
        for node in ElementTree.parse(path).getroot().iter("object"):
            box = tuple(
                int(node.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax")
            )
            tracks[int(node.findtext("trackid"))][int(path.stem)] = box
    return tracks


def overlap(a: Box, b: Box) -> float:
    """IoU of two boxes with inclusive ends."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    inter = max(width, 0) * max(height, 0)
    area = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return inter / (area - inter)


def test_lists_name_the_videos(small_set: Path) -> None:
    train = (small_set / "ImageSets/VID_train_15frames.txt").read_text().splitlines()
    assert len(train) == 4 * 15
    assert train[0] == "train/moving_shapes_train_00000000 1 0 17"
    assert train[-1] == "train/moving_shapes_train_00000003 1 16 17"
    val = (small_set / "ImageSets/VID_val_videos.txt").read_text().splitlines()
    assert val == [
        "val/moving_shapes_val_00000000 1 0 9",
        "val/moving_shapes_val_00000001 10 0 9",
        "val/moving_shapes_val_00000002 19 0 9",
    ]


def test_every_frame_has_a_jpeg_and_a_well_formed_xml(small_set: Path) -> None:
    videos = sorted((small_set / "Data/VID").glob("*/*"))
    assert len(videos) == 7
    objects = 0
    for video in videos:
        length = 17 if video.parent.name == "train" else 9
        assert sorted(p.name for p in video.iterdir()) == [f"{t:06d}.JPEG" for t in range(length)]
        for frame in sorted(video.iterdir()):
            assert cv2.imread(str(frame)).shape == (96, 128, 3)
            relative = frame.relative_to(small_set / "Data").with_suffix(".xml")
            root = ElementTree.parse(small_set / "Annotations" / relative).getroot()
            assert root.findtext("folder") == video.name
            assert root.findtext("filename") == frame.stem
            assert (root.findtext("size/width"), root.findtext("size/height")) == ("128", "96")
            tracks = [node.findtext("trackid") for node in root.iter("object")]
            assert len(tracks) == len(set(tracks))
            for node in root.iter("object"):
                objects += 1
                assert [child.tag for child in node] == [
                    "trackid",
                    "name",
                    "bndbox",
                    "occluded",
                    "generated",
                ]
                assert node.findtext("name") in MOVING_SHAPES_CLASSES
                assert node.findtext("occluded") in ("0", "1")
                x1, y1, x2, y2 = (
                    int(node.findtext(f"bndbox/{t}")) for t in ("xmin", "ymin", "xmax", "ymax")
                )
                assert 0 <= x1 < x2 <= 127
                assert 0 <= y1 < y2 <= 95
    counts = json.loads((small_set / "moving_shapes.json").read_text())["splits"]
    assert objects == counts["train"]["boxes"] + counts["val"]["boxes"] > 0


def test_a_track_keeps_its_class(small_set: Path) -> None:
    for video in (small_set / "Annotations/VID").glob("*/*"):
        names = defaultdict(set)
        for path in video.iterdir():
            for node in ElementTree.parse(path).getroot().iter("object"):
                names[node.findtext("trackid")].add(node.findtext("name"))
        assert all(len(found) == 1 for found in names.values())


def test_same_bytes_for_any_number_of_workers(
    small_set: Path, small_options: dict, tmp_path: Path
) -> None:
    generate_moving_shapes(tmp_path, **small_options, num_workers=2)
    assert digests(tmp_path) == digests(small_set)


def test_another_seed_makes_another_set(
    small_set: Path, small_options: dict, tmp_path: Path
) -> None:
    generate_moving_shapes(tmp_path, **{**small_options, "seed": 4}, num_workers=1)
    first, second = digests(small_set), digests(tmp_path)
    frames = [name for name in first if name.endswith(".JPEG")]
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in frames)


def test_motion_categories_have_the_shares_of_imagenet_vid(default_val_set: Path) -> None:
    counts: Counter[str] = Counter()
    for video in (default_val_set / "Annotations/VID/val").iterdir():
        for track in read_tracks(video).values():
            for t, box in track.items():
                near = [
                    overlap(box, track[u]) for u in range(t - 10, t + 11) if u != t and u in track
                ]
                value = sum(near) / len(near) if near else 1.0
                counts["slow" if value >= 0.9 else "medium" if value >= 0.7 else "fast"] += 1
    total = counts.total()
    assert total > 1000
    for name, share in (("slow", 0.38), ("medium", 0.36), ("fast", 0.26)):
        assert counts[name] / total == pytest.approx(share, abs=0.06), counts


def test_default_val_split(default_val_set: Path) -> None:
    assert not (default_val_set / "ImageSets/VID_train_15frames.txt").exists()
    marker = json.loads((default_val_set / "moving_shapes.json").read_text())
    counts = marker["splits"]["val"]
    assert (counts["videos"], counts["frames"]) == (20, 800)
    assert 0.28 <= counts["deteriorated_boxes"] / counts["boxes"] <= 0.42
    assert set(counts["deteriorated_boxes_by_kind"]) == {
        "motion_blur",
        "defocus",
        "noise",
        "compression",
        "occlusion",
        "pose",
    }
    by_class = counts["boxes_by_class"]
    assert sorted(by_class) == sorted(MOVING_SHAPES_CLASSES)
    assert min(by_class.values()) > 0.5 * max(by_class.values())
    xmls = (default_val_set / "Annotations/VID/val").rglob("*.xml")
    empty = sum("<object>" not in path.read_text() for path in xmls)
    assert empty == counts["empty_frames"] > 0


def test_severity_zero_counts_no_deterioration(small_options: dict, tmp_path: Path) -> None:
    marker = generate_moving_shapes(tmp_path, **small_options, severity=0.0, num_workers=1)
    for counts in marker["splits"].values():
        assert counts["deteriorated_boxes"] == 0
        assert counts["deteriorated_boxes_by_kind"] == {}


def test_the_reader_of_imagenet_vid_reads_it(small_set: Path, clean_catalogs: None) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    register_imagenet_vid(
        "synth_test",
        small_set,
        "VID_val_videos",
        classes={name: name for name in MOVING_SHAPES_CLASSES},
    )
    dicts = DatasetCatalog.get("synth_test")
    assert [d["image_id"] for d in dicts] == list(range(1, 28))
    assert MetadataCatalog.get("synth_test").thing_classes == list(MOVING_SHAPES_CLASSES)
    counts = json.loads((small_set / "moving_shapes.json").read_text())["splits"]["val"]
    assert sum(len(d["annotations"]) for d in dicts) == counts["boxes"]


def test_a_complete_set_is_left_alone(small_set: Path, small_options: dict) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_set.rglob("*")}
    marker = generate_moving_shapes(small_set, **small_options)
    assert marker == json.loads((small_set / "moving_shapes.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in small_set.rglob("*")} == before


def test_other_options_need_overwrite_and_spare_foreign_files(
    small_set: Path, small_options: dict, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(small_set, root)
    foreign = [
        root / "notes.txt",
        root / "Data/VID/val/holiday/000000.JPEG",
        root / "Data/VID/train/moving_shapes_train_00000003/readme.txt",
        root / "ImageSets/mine.txt",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    fewer = {**small_options, "num_train_videos": 2}
    before = digests(root)
    with pytest.raises(FileExistsError, match="num_train_videos: 4, not 2"):
        generate_moving_shapes(root, **fewer, num_workers=1)
    assert digests(root) == before
    generate_moving_shapes(root, **fewer, num_workers=1, overwrite=True)
    assert all(path.read_text() == "mine" for path in foreign)
    train = root / "Data/VID/train"
    assert list((train / "moving_shapes_train_00000003").glob("*.JPEG")) == []
    assert len(list(train.rglob("*.JPEG"))) == 2 * 17


def test_an_interrupted_set_is_made_anew(
    small_set: Path, small_options: dict, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(small_set, root)
    (root / "moving_shapes.json").unlink()
    shutil.copytree(
        root / "Data/VID/val/moving_shapes_val_00000000",
        root / "Data/VID/val/moving_shapes_val_00000077",
    )
    (root / "Data/VID/val/moving_shapes_val_00000000/000003.JPEG").write_bytes(b"half")
    generate_moving_shapes(root, **small_options, num_workers=1)
    assert digests(root) == digests(small_set)


def test_a_set_that_lost_files_does_not_count_as_complete(
    small_set: Path, small_options: dict, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(small_set, root)
    options = MovingShapesOptions(**{k: v for k, v in small_options.items() if k != "progress"})
    assert find_complete(root, options) is not None
    shutil.rmtree(root / "Data/VID/val/moving_shapes_val_00000001")
    assert find_complete(root, options) is None


def test_files_of_others_are_not_overwritten(small_options: dict, tmp_path: Path) -> None:
    lists = tmp_path / "ilsvrc/ImageSets"
    lists.mkdir(parents=True)
    (lists / "VID_val_videos.txt").write_text("val/ILSVRC2015_val_00000000 1 0 464\n")
    with pytest.raises(FileExistsError, match=r"VID_val_videos\.txt lists videos that this"):
        generate_moving_shapes(tmp_path / "ilsvrc", **small_options, overwrite=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/contact_sheet.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"contact_sheet\.png was not written by this"):
        generate_moving_shapes(tmp_path / "photos", **small_options, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file; give a folder"):
        generate_moving_shapes(tmp_path / "file", **small_options, overwrite=True)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/moving_shapes.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        generate_moving_shapes(tmp_path / "broken", **small_options, overwrite=True)
    assert (tmp_path / "photos/contact_sheet.png").read_text() == "mine"
    assert (lists / "VID_val_videos.txt").read_text().startswith("val/ILSVRC2015")
