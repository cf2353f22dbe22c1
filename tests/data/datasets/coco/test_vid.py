from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from iff_detectron2.data import register_coco_vid

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def load(write_json):
    def load(content: dict, **options: Any) -> list[dict]:
        path = write_json(content)
        register_coco_vid("set", path, path.parent, **options)
        return DatasetCatalog.get("set")

    return load


def test_a_whole_dataset_dict(load, coco_content, tmp_path: Path) -> None:
    dicts = load(coco_content)
    assert dicts[0] == {
        "file_name": f"{tmp_path}/first/000000.jpg",
        "height": 48,
        "width": 64,
        "image_id": 11,
        "video_id": "first",
        "frame_index": 0,
        "frame_number": 0,
        "video_length": 3,
        "annotations": [
            {
                "bbox": [4, 6, 24, 30],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 1,
                "iscrowd": 0,
                "track_id": 100,
            },
            {
                "bbox": [30, 6, 50.5, 30],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 0,
                "iscrowd": 0,
                "track_id": 101,
            },
        ],
    }
    assert [(d["image_id"], d["video_id"], d["frame_index"]) for d in dicts] == [
        (11, "first", 0),
        (12, "first", 1),
        (13, "first", 2),
        (21, "second", 0),
        (22, "second", 1),
    ]
    assert dict(MetadataCatalog.get("set").frame_index()) == {
        "first": [f"{tmp_path}/first/00000{t}.jpg" for t in range(3)],
        "second": [f"{tmp_path}/second/00000{t}.jpg" for t in range(2)],
    }


def test_class_names_are_there_before_the_dicts_are_read(write_json, coco_content) -> None:
    path = write_json(coco_content)
    register_coco_vid("set", path, path.parent)
    metadata = MetadataCatalog.get("set")
    assert metadata.get("something_else") is None
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {2: 0, 5: 1}
    assert metadata.get("keypoint_names") is None
    assert metadata.evaluator_type == "vid"


def test_metadata_of_a_file_that_comes_later(tmp_path: Path, write_json, coco_content) -> None:
    register_coco_vid("set", tmp_path / "labels.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"labels\.json does not exist"):
        _ = MetadataCatalog.get("set").thing_classes
    write_json(coco_content)
    assert MetadataCatalog.get("set").thing_classes == ["cat", "dog"]


def test_one_class_of_two(load, coco_content) -> None:
    dicts = load(coco_content, classes=["dog"])
    assert [[a["category_id"] for a in d["annotations"]] for d in dicts] == [[0], [0], [], [], []]
    metadata = MetadataCatalog.get("set")
    assert metadata.thing_classes == ["dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {5: 0}


def test_annotated_frames_only(load, coco_content) -> None:
    dicts = load(coco_content, classes=["dog"], annotated_only=True)
    # Image 21 has a cat: somebody looked at it and saw no dog.
    assert [(d["image_id"], d["video_length"]) for d in dicts] == [(11, 3), (12, 3), (21, 2)]
    assert len(MetadataCatalog.get("set").frame_index()["first"]) == 3


def test_without_track_ids_and_with_texts_as_ids(load, coco_content) -> None:
    for annotation, track in zip(coco_content["annotations"], [None, "a", 0, None], strict=True):
        del annotation["instance_id"]
        if track is not None:
            annotation["track_id"] = track
    annotations = [a for d in load(coco_content) for a in d["annotations"]]
    assert [a.get("track_id") for a in annotations] == [None, "a", 0, None]


def test_stills_and_sizes_of_the_video(load, coco_content, tmp_path: Path) -> None:
    images = coco_content["images"]
    del images[3]["video_id"], images[3]["frame_id"]
    for image in images[:3]:
        del image["width"], image["height"]
    coco_content["videos"][0] |= {"width": 64, "height": 48}
    dicts = load(coco_content)
    assert "video_id" not in dicts[3]
    assert dicts[3]["file_name"] == f"{tmp_path}/second/000000.jpg"
    assert {(d["width"], d["height"]) for d in dicts} == {(64, 48)}
    assert len(MetadataCatalog.get("set").frame_index()["second"]) == 1


def test_frame_numbers_from_anywhere_give_the_order(load, coco_content, frame_files) -> None:
    for image, number in zip(coco_content["images"], [1, 31, 61, 5, 6], strict=True):
        image["frame_index"] = number
        del image["frame_id"]
    assert [d["frame_index"] for d in load(coco_content)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("unlisted", "indices", "length"),
    [("gaps", [0, 4, 9], 10), ("all", [3, 7, 12], 14), ("none", [0, 1, 2], 3)],
)
def test_unlisted_frames(
    load, coco_content, frame_files, unlisted: str, indices: list[int], length: int
) -> None:
    """Files 7 to 20 are on the disk, of which 10, 14 and 19 are listed."""
    frame_files(*(f"first/{number:06d}.jpg" for number in range(7, 21)))
    frame_files("first/000010.png", "first/mask_000010.jpg", "first/notes.txt")
    frame_files("second/000000.jpg", "second/000001.jpg")
    for image, number in zip(coco_content["images"], (10, 14, 19), strict=False):
        image["file_name"] = f"first/{number:06d}.jpg"
    dicts = load(coco_content, unlisted_frames=unlisted)
    assert [d["frame_index"] for d in dicts[:3]] == indices
    frames = MetadataCatalog.get("set").frame_index()["first"]
    assert len(frames) == length
    assert [frames[i] for i in indices] == [d["file_name"] for d in dicts[:3]]
    assert [Path(f).name for f in frames] == sorted(Path(f).name for f in frames)


def test_masks_and_keypoints_are_kept(load, coco_content) -> None:
    first, second, third, _ = coco_content["annotations"]
    first["segmentation"] = [[4, 6, 24, 6, 24, 30]]
    mask = np.zeros((48, 64), np.uint8)
    mask[6:30, 30:50] = 1
    runs = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))
    counts = np.diff([0, *runs, mask.size]).tolist()
    second["segmentation"] = {"size": [48, 64], "counts": counts}
    third["keypoints"] = [5, 6, 2, 0, 0, 0]
    coco_content["categories"][0]["keypoints"] = ["left_eye", "right_eye"]
    dicts = load(coco_content)
    assert dicts[0]["annotations"][0]["segmentation"] == [[4, 6, 24, 6, 24, 30]]
    import pycocotools.mask as mask_util

    rle = dicts[0]["annotations"][1]["segmentation"]
    np.testing.assert_array_equal(mask_util.decode(rle), mask)
    assert dicts[1]["annotations"][0]["keypoints"] == [5.5, 6.5, 2, 0.5, 0.5, 0]
    metadata = MetadataCatalog.get("set")
    assert metadata.keypoint_names == ["left_eye", "right_eye"]
    assert metadata.keypoint_flip_map == [("left_eye", "right_eye")]


def test_boxes_are_clipped_and_empty_ones_dropped(load, coco_content, caplog) -> None:
    boxes = [[-4, 40, 20, 24], [5, 5, 0, 9], [70, 5, 9, 9], [0, 0, 64, 48]]
    for annotation, box in zip(coco_content["annotations"], boxes, strict=True):
        annotation["bbox"] = box
    with caplog.at_level("WARNING"):
        dicts = load(coco_content)
    assert [[a["bbox"] for a in d["annotations"]] for d in dicts] == [
        [[0, 40, 16, 48]],
        [],
        [],
        [[0, 0, 64, 48]],
        [],
    ]
    assert "1 boxes reached out" in caplog.text
    assert "2 boxes without area" in caplog.text


def _set(path: str, value: Any):
    """Change one field, such as `images/2/id`; None removes it."""

    def change(content: dict) -> None:
        *way, last = (int(p) if p.isdecimal() else p for p in path.split("/"))
        for step in way:
            content = content[step]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("images/1/id", 11), "the id 11 is there twice in 'images'"),
        (_set("annotations/3/id", 1), "the id 1 is there twice in 'annotations'"),
        (_set("videos/1/id", 7), "the id 7 is there twice in 'videos'"),
        (_set("categories/1/id", 5), "the id 5 is there twice in 'categories'"),
        (_set("videos/1/name", "first"), "two videos have the same name"),
        (_set("annotations/0/image_id", 99), r"annotations id 1: image_id 99 is not the id of any"),
        (_set("annotations/0/category_id", 99), "annotations id 1: category_id 99 is not the id"),
        (_set("images/0/video_id", 99), "images id 11: video_id 99 is not the id of any"),
        (_set("images/1/frame_id", 0), r"images id 12: frame 0 comes after frame 0 \(image 11\)"),
        (_set("images/2/frame_id", 0), r"images id 13: frame 0 comes after frame 1 \(image 12\)"),
        (_set("images/1/frame_id", -1), "'frame_id' must be an integer of at least 0, got -1"),
        (_set("images/1/frame_id", "1"), "'frame_id' must be an integer of at least 0, got '1'"),
        (_set("images/1/frame_id", None), "'frame_id' must be an integer of at least 0, got None"),
        (_set("images/1/file_name", "/etc/passwd"), r"images id 12: '/etc/passwd' must be a rel"),
        (_set("images/1/file_name", "a/../../b.jpg"), r"must be a relative path without '\.\.'"),
        (_set("images/1/file_name", "a\\..\\..\\b.jpg"), "must be a relative path"),
        (_set("images/1/file_name", "C:\\b.jpg"), "must be a relative path"),
        (_set("images/1/file_name", "http://x/b.jpg"), "must be a relative path"),
        (_set("images/1/file_name", "first/000000.jpg"), "two of its frames|another order"),
        (_set("images/1/file_name", None), "images id 12: 'file_name' must be a text"),
        (_set("images/1/width", None), "images id 12: 'width' must be an integer of at least 1"),
        (_set("images/1/width", 0), "images id 12: 'width' must be an integer of at least 1"),
        (_set("annotations/1/bbox", [1, 2, 3]), "annotations id 2: bbox must be 4 finite numbers"),
        (_set("annotations/1/bbox", [1, 2, 3, float("nan")]), "bbox must be 4 finite numbers"),
        (_set("annotations/1/bbox", None), "bbox must be 4 finite numbers, got None"),
        (_set("annotations/1/instance_id", 100), "the track 100 has a second box in image 11"),
        (_set("annotations/1/instance_id", [1]), r"a track id must be an integer or a text"),
        (_set("annotations/1/iscrowd", 2), "'iscrowd' must be 0 or 1, got 2"),
        (_set("annotations/1/id", None), r"annotations\[1\]: 'id' must be an integer, got None"),
        (_set("annotations/1/segmentation", [[1, 2, 3]]), "must be points x1, y1, x2, y2"),
        (_set("annotations/1/segmentation", "x"), "must be polygons, or RLE"),
        (
            _set("annotations/1/segmentation", {"size": [64, 48], "counts": "x"}),
            r"has size \[64, 48\] \(height, width\), its image \[48, 64\]",
        ),
        (
            _set("annotations/1/segmentation", {"size": [48, 64], "counts": [5, 6]}),
            r"add up to the 3072 pixels of its image, got \[5, 6\]",
        ),
        (_set("annotations/1/keypoints", [1, 2]), "keypoints must be triples"),
        (_set("annotations", {}), "lacks the list 'annotations'"),
        (_set("videos", None), "lacks the list 'videos'"),
        (_set("images/0", 5), r"images\[0\] must be an object, got 5"),
        (_set("categories", []), "has no categories"),
        (_set("images", []), "annotations id 1: image_id 11 is not the id of any of the images"),
    ],
)
def test_malformed_files(load, coco_content, tmp_path: Path, change, message: str) -> None:
    change(coco_content)
    with pytest.raises(ValueError, match=message) as caught:
        load(coco_content)
    assert str(tmp_path / "labels.json") in str(caught.value)


def test_files_in_another_order_than_their_frames(load, coco_content) -> None:
    names = ["first/000000.jpg", "first/000002.jpg", "first/000001.jpg"]
    for image, name in zip(coco_content["images"], names, strict=False):
        image["file_name"] = name
    with pytest.raises(ValueError, match=r"videos id 7: its frames are listed in another order"):
        load(coco_content)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_cut_file(write_json, coco_content, keep: float) -> None:
    path = write_json(coco_content)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    register_coco_vid("set", path, path.parent)
    with pytest.raises(ValueError, match=r"labels\.json is not valid JSON .*is the file cut off"):
        DatasetCatalog.get("set")


def test_a_list_instead_of_an_object(load) -> None:
    with pytest.raises(ValueError, match=r"must hold a JSON object, got list"):
        load([])


def test_missing_frames_are_found_where_the_disk_is_read(load, coco_content, frame_files) -> None:
    frame_files("first/000000.jpg", "first/000002.jpg", "second/000000.jpg", "second/000001.jpg")
    with pytest.raises(FileNotFoundError, match=r"videos id 7: its frame .*first/000001\.jpg does"):
        load(coco_content, unlisted_frames="all")


def test_two_files_of_one_number(load, coco_content, frame_files) -> None:
    frame_files("first/000000.jpg", "first/000001.jpg", "first/1.jpg", "first/000002.jpg")
    with pytest.raises(ValueError, match="two frames of number 1"):
        load(coco_content, unlisted_frames="all")


def test_names_without_a_common_pattern(load, coco_content) -> None:
    coco_content["images"][1]["file_name"] = "first/b1.jpg"
    coco_content["images"][2]["file_name"] = "first/end.jpg"
    assert len(load(coco_content)) == 5
    DatasetCatalog.remove("set")
    MetadataCatalog.remove("set")
    with pytest.raises(ValueError, match="differ in more than their last number"):
        load(coco_content, unlisted_frames="all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["dog", "dog"]}, "a class of 'set' is given twice"),
        ({"classes": []}, "needs at least one class"),
        ({"unlisted_frames": "some"}, "unlisted_frames must be one of"),
    ],
)
def test_bad_arguments(tmp_path: Path, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_coco_vid("set", tmp_path / "x.json", tmp_path, **options)
    assert "set" not in DatasetCatalog


def test_a_class_that_the_file_lacks(load, coco_content) -> None:
    with pytest.raises(ValueError, match="has no category 'cow'; it has cat, dog"):
        load(coco_content, classes=["cow"])


def test_no_annotated_image(load, coco_content) -> None:
    coco_content["annotations"] = []
    with pytest.raises(ValueError, match=r"the dataset 'set' is empty: .* has no annotated image"):
        load(coco_content, annotated_only=True)
