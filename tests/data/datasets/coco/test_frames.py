from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data import register_coco_frames

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def content(coco_content) -> dict[str, Any]:
    """Plain COCO: no videos, no frame numbers, no tracks."""
    del coco_content["videos"]
    for image in coco_content["images"]:
        del image["video_id"], image["frame_id"]
    for annotation in coco_content["annotations"]:
        del annotation["instance_id"]
    return coco_content


@pytest.fixture
def load(write_json):
    def load(content: dict, **options: Any) -> list[dict]:
        path = write_json(content)
        register_coco_frames("set", path, path.parent, **options)
        return DatasetCatalog.get("set")

    return load


def test_folders_are_videos(load, content, frame_files, tmp_path: Path) -> None:
    frame_files(*(f"first/{n:06d}.jpg" for n in range(6)), "first/000001.png", "first/notes.txt")
    frame_files("second/000000.jpg", "second/000001.jpg")
    content["images"][2]["file_name"] = "first/000004.jpg"
    dicts = load(content)
    assert [(d["image_id"], d["video_id"], d["frame_index"], d["video_length"]) for d in dicts] == [
        (11, "first", 0, 6),
        (12, "first", 1, 6),
        (13, "first", 4, 6),
        (21, "second", 0, 2),
        (22, "second", 1, 2),
    ]
    index = MetadataCatalog.get("set").frame_index()
    assert index["first"] == [f"{tmp_path}/first/{n:06d}.jpg" for n in range(6)]
    assert [index[d["video_id"]][d["frame_index"]] for d in dicts] == [
        d["file_name"] for d in dicts
    ]
    assert [[a["bbox"] for a in d["annotations"]] for d in dicts[:2]] == [
        [[4, 6, 24, 30], [30, 6, 50.5, 30]],
        [[6, 6, 26, 30]],
    ]
    assert not any("track_id" in a for d in dicts for a in d["annotations"])


def test_several_videos_in_one_folder_in_any_order(load, content, frame_files) -> None:
    """Numbers without zeros in front are ordered as numbers; the JSON may be in any order."""
    frame_files(*(f"cam_{n}.jpg" for n in range(8, 12)), *(f"clips/b-{n}.jpg" for n in (3, 20)))
    frame_files("000007.jpg")
    names = ["cam_10.jpg", "cam_9.jpg", "clips/b-20.jpg", "clips/b-3.jpg", "000007.jpg"]
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    dicts = load(content)
    assert [(d["video_id"], d["frame_index"], d["video_length"]) for d in dicts[:4]] == [
        ("cam", 2, 4),
        ("cam", 1, 4),
        ("clips/b", 1, 2),
        ("clips/b", 0, 2),
    ]
    assert dicts[4]["video_id"] == Path(dicts[4]["file_name"]).parent.name


def test_a_name_without_a_number_is_a_still(load, content, frame_files) -> None:
    frame_files("first/000000.jpg", "first/000001.jpg", "first/000002.jpg", "second/000000.jpg")
    content["images"][4]["file_name"] = "second/cover.jpg"
    dicts = load(content)
    assert "video_id" not in dicts[4]
    assert dicts[4]["file_name"].endswith("second/cover.jpg")


def test_annotated_frames_only(load, content, frame_files) -> None:
    frame_files(*(f"first/00000{n}.jpg" for n in range(3)), "second/000000.jpg")
    frame_files("second/000001.jpg")
    assert [d["image_id"] for d in load(content, annotated_only=True)] == [11, 12, 21]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("first/000009.jpg", FileNotFoundError, r"images id 12: the frame .*9\.jpg does not exist"),
        ("third/000000.jpg", FileNotFoundError, r"the folder .*third.* does not exist"),
        ("first/000000.jpg", ValueError, r"images id 12: 'first/000000.jpg' is image 11 already"),
        ("first/000001.png", ValueError, r"'first/000001\.png' and other frames of 'first' differ"),
        ("/first/000001.jpg", ValueError, "images id 12: '/first/000001.jpg' must be a relative"),
        ("first/../../1.jpg", ValueError, "must be a relative path without"),
        ("", ValueError, "images id 12: 'file_name' must be a text"),
    ],
)
def test_malformed_names(load, content, frame_files, name: str, error, message: str) -> None:
    frame_files(*(f"first/00000{n}.jpg" for n in range(3)), "first/000001.png")
    content["images"][1]["file_name"] = name
    with pytest.raises(error, match=message):
        load(content)


def test_cut_file_and_unknown_image(load, content, write_json) -> None:
    content["annotations"][0]["image_id"] = 1
    with pytest.raises(ValueError, match="annotations id 1: image_id 1 is not the id of any"):
        load(content)
    path = write_json(content)
    path.write_bytes(path.read_bytes()[:100])
    register_coco_frames("cut", path, path.parent)
    with pytest.raises(ValueError, match=r"labels\.json is not valid JSON"):
        DatasetCatalog.get("cut")
