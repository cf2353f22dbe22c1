from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode

from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.data.datasets import IMAGENET_VID_CLASSES

pytestmark = pytest.mark.usefixtures("clean_catalogs")

FRAMES, VIDEOS, STILLS = "VID_train_15frames", "VID_val_videos", "DET_train_30classes"


def test_classes_are_those_of_the_protocol(shared_dir: Path) -> None:
    text = (shared_dir / "spec/vid_protocol.md").read_text()
    rows = re.findall(r"(\d+) ([a-z_]+) (n\d{8}) \d+", text)
    assert len(rows) == 30
    assert list(IMAGENET_VID_CLASSES.items()) == [
        (synset, name) for _, name, synset in sorted(rows, key=lambda row: int(row[0]))
    ]


def test_frames_list(tiny_vid) -> None:
    root = tiny_vid(lengths=(5, 3), every=2, empty={(0, 2)})
    register_imagenet_vid("tiny", root, FRAMES)
    dicts = DatasetCatalog.get("tiny")
    assert [(d["video_id"], d["frame_index"], d["video_length"]) for d in dicts] == [
        ("train/video_0", 0, 5),
        ("train/video_0", 2, 5),
        ("train/video_0", 4, 5),
        ("train/video_1", 0, 3),
        ("train/video_1", 2, 3),
    ]
    assert [d["image_id"] for d in dicts] == [1, 2, 3, 4, 5]
    assert all(Path(d["file_name"]).is_file() for d in dicts)
    assert dicts[1]["annotations"] == []  # an XML without objects
    assert dicts[4] == {
        "file_name": f"{root}/Data/VID/train/video_1/000002.JPEG",
        "height": 48,
        "width": 64,
        "image_id": 5,
        "video_id": "train/video_1",
        "frame_index": 2,
        "video_length": 3,
        "annotations": [
            {
                "bbox": [float(v) for v in tiny_vid.box(1, 2)],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 8,  # dog, number 9 of the protocol
                "iscrowd": 0,
                "track_id": 0,
            }
        ],
    }
    meta = MetadataCatalog.get("tiny")
    assert meta.evaluator_type == "vid"
    assert meta.thing_classes[8] == "dog"
    index = meta.frame_index()
    assert {video: len(frames) for video, frames in index.items()} == {
        "train/video_0": 5,
        "train/video_1": 3,
    }
    assert all(Path(frame).is_file() for frames in index.values() for frame in frames)


def test_videos_list_gives_every_frame_its_global_id(tiny_vid) -> None:
    root = tiny_vid(lengths=(2, 1, 3))
    register_imagenet_vid("tiny", root, VIDEOS)
    dicts = DatasetCatalog.get("tiny")
    assert [d["image_id"] for d in dicts] == [1, 2, 3, 4, 5, 6]
    assert [d["frame_index"] for d in dicts] == [0, 1, 0, 0, 1, 2]


def test_stills_have_no_video_and_skip_other_synsets(tiny_vid) -> None:
    root = tiny_vid(stills=2)
    tiny_vid.write_xml(
        root / "Annotations/DET/train/still_0.xml",
        (64, 48),
        [("n07739125", None, (1, 2, 9, 9)), ("n02691156", None, (3, 4, 20, 30))],
    )
    register_imagenet_vid("tiny", root, STILLS)
    first, second = DatasetCatalog.get("tiny")
    assert "video_id" not in first
    assert [a["category_id"] for a in first["annotations"]] == [0]
    assert "track_id" not in first["annotations"][0]
    assert [d["image_id"] for d in (first, second)] == [1, 2]
    assert len(MetadataCatalog.get("tiny").frame_index()) == 0


def test_other_classes(tiny_vid) -> None:
    root = tiny_vid(class_name="disc")
    register_imagenet_vid("tiny", root, FRAMES, classes={"ring": "Ring", "disc": "Disc"})
    assert DatasetCatalog.get("tiny")[0]["annotations"][0]["category_id"] == 1
    assert MetadataCatalog.get("tiny").thing_classes == ["Ring", "Disc"]


def test_nothing_is_read_before_use_and_files_only_once(tiny_vid, tmp_path: Path) -> None:
    register_imagenet_vid("tiny", tmp_path / "ILSVRC2015", FRAMES)  # does not exist yet
    root = tiny_vid()
    dicts = DatasetCatalog.get("tiny")
    (root / "ImageSets" / f"{FRAMES}.txt").unlink()
    dicts[0]["width"] = -1  # the caller's own copy
    assert DatasetCatalog.get("tiny")[0]["width"] == 64
    assert len(MetadataCatalog.get("tiny").frame_index()) == 1


def test_unknown_synset_in_a_video(tiny_vid) -> None:
    root = tiny_vid()
    tiny_vid.write_xml(
        root / "Annotations/VID/train/video_0/000003.xml",
        (64, 48),
        [("n09999999", 0, (1, 2, 9, 9))],
    )
    register_imagenet_vid("tiny", root, FRAMES)
    with pytest.raises(ValueError, match=r"000003\.xml .*'n09999999'.*30 classes of 'tiny'"):
        DatasetCatalog.get("tiny")


def test_bad_boxes_are_mended_with_one_warning(tiny_vid, caplog) -> None:
    root = tiny_vid(lengths=(3,))
    folder = root / "Annotations/VID/train/video_0"
    tiny_vid.write_xml(folder / "000000.xml", (64, 48), [("n02084071", 0, (-3, 2, 70, 40))])
    tiny_vid.write_xml(
        folder / "000001.xml",
        (64, 48),
        [("n02084071", 0, (30, 2, 20, 40)), ("n02084071", 1, (1, 2, 9, 9))],
    )
    tiny_vid.write_xml(folder / "000002.xml", (64, 48), [("n02084071", 0, (100, 2, 120, 40))])
    register_imagenet_vid("tiny", root, FRAMES)
    with caplog.at_level(logging.WARNING):
        dicts = DatasetCatalog.get("tiny")
    assert [[a["bbox"] for a in d["annotations"]] for d in dicts] == [
        [[0, 2, 64, 40]],
        [[1, 2, 9, 9]],
        [],
    ]
    (text,) = [r.getMessage() for r in caplog.records if "boxes" in r.getMessage()]
    assert "tiny: 1 boxes" in text
    assert "000000.xml" in text
    assert "2 boxes without area" in text
    assert "000001.xml" in text


def test_malformed_annotation_is_named(tiny_vid) -> None:
    root = tiny_vid()
    (root / "Annotations/VID/train/video_0/000002.xml").write_text("<annotation><size>")
    register_imagenet_vid("tiny", root, FRAMES)
    with pytest.raises(ValueError, match=r"000002\.xml is not well-formed"):
        DatasetCatalog.get("tiny")


def test_missing_annotation_is_named(tiny_vid) -> None:
    root = tiny_vid()
    (root / "Annotations/VID/train/video_0/000002.xml").unlink()
    register_imagenet_vid("tiny", root, FRAMES)
    with pytest.raises(FileNotFoundError, match=r"000002\.xml does not exist"):
        DatasetCatalog.get("tiny")


def test_empty_dataset(tiny_vid) -> None:
    root = tiny_vid()
    (root / "ImageSets" / f"{FRAMES}.txt").write_text("\n")
    register_imagenet_vid("tiny", root, FRAMES)
    with pytest.raises(ValueError, match=r"VID_train_15frames\.txt is empty"):
        get_detection_dataset_dicts("tiny")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"image_set": "../other"}, r"name of a list in ImageSets, got '\.\./other'"),
        ({"image_set": ""}, "name of a list in ImageSets, got ''"),
        ({"image_set": "a", "list_form": "rows"}, "list form must be one of .* got 'rows'"),
        ({"image_set": "a", "classes": {}}, "'tiny' needs at least one class"),
        ({"image_set": "a", "name": "imagenet_vid_val"}, "'imagenet_vid_val' is registered"),
    ],
)
def test_bad_arguments(tmp_path: Path, kwargs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_imagenet_vid(**{"name": "tiny", "root": tmp_path, **kwargs})
