from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from iff_detectron2.data import register_youtube_vis

pytestmark = pytest.mark.usefixtures("clean_catalogs")

TRIANGLE = [[4, 6, 24, 6, 24, 30]]


@pytest.fixture
def content() -> dict[str, Any]:
    """Two videos of 3 and 1 frames; the first has two tracks with gaps."""
    return {
        "videos": [
            {
                "id": 1,
                "width": 64,
                "height": 48,
                "length": 3,
                "file_names": ["ab/00000.jpg", "ab/00005.jpg", "ab/00010.jpg"],
            },
            {"id": 2, "width": 32, "height": 40, "length": 1, "file_names": ["cd/00000.jpg"]},
        ],
        "annotations": [
            {
                "id": 31,
                "video_id": 1,
                "category_id": 9,
                "iscrowd": 0,
                "bboxes": [[4, 6, 20, 24], None, [8, 6, 20, 24]],
                "segmentations": [TRIANGLE, None, None],
            },
            {
                "id": 32,
                "video_id": 1,
                "category_id": 4,
                "bboxes": [[30, 6, 20, 24], [31, 6, 20, 24], None],
            },
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    }


@pytest.fixture
def load(write_json, frame_files):
    frame_files("ab/00000.jpg", "ab/00005.jpg", "ab/00010.jpg", "cd/00000.jpg")

    def load(content: dict, **options: Any) -> list[dict]:
        path = write_json(content)
        register_youtube_vis("set", path, path.parent, **options)
        return DatasetCatalog.get("set")

    return load


def test_tracks_become_frames(load, content, tmp_path: Path) -> None:
    dicts = load(content)
    box = {"bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    dog = {**box, "category_id": 1, "track_id": 31}
    cat = {**box, "category_id": 0, "track_id": 32}
    first = {**dog, "bbox": [4, 6, 24, 30], "segmentation": TRIANGLE}
    assert [d["annotations"] for d in dicts] == [
        [first, {**cat, "bbox": [30, 6, 50, 30]}],
        [{**cat, "bbox": [31, 6, 51, 30]}],
        [{**dog, "bbox": [8, 6, 28, 30]}],
        [],
    ]
    assert {k: dicts[2][k] for k in dicts[2] if k != "annotations"} == {
        "file_name": f"{tmp_path}/ab/00010.jpg",
        "height": 48,
        "width": 64,
        "image_id": 3,
        "video_id": "ab",
        "frame_index": 2,
        "frame_number": 10,
        "video_length": 3,
    }
    assert (dicts[3]["video_id"], dicts[3]["width"], dicts[3]["height"]) == ("cd", 32, 40)
    assert MetadataCatalog.get("set").thing_classes == ["cat", "dog"]


def test_all_frames_of_the_folder(load, content, frame_files) -> None:
    """With the tree of all frames as root the labelled ones are every fifth."""
    frame_files(*(f"ab/{number:05d}.jpg" for number in range(13)))
    dicts = load(content)
    assert [d["frame_index"] for d in dicts] == [0, 5, 10, 0]
    assert dicts[0]["video_length"] == 11
    assert len(MetadataCatalog.get("set").frame_index()["ab"]) == 11


def test_annotated_frames_only(load, content) -> None:
    content["annotations"] = content["annotations"][1:]
    dicts = load(content, annotated_only=True)
    assert [(d["image_id"], d["frame_index"]) for d in dicts] == [(1, 0), (2, 1)]


def test_masks_without_boxes(load, content) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:45] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    track = content["annotations"][0]
    track["segmentations"] = [TRIANGLE, None, {**rle, "counts": rle["counts"].decode()}]
    del track["bboxes"]
    annotations = [[a for a in d["annotations"] if a["track_id"] == 31] for d in load(content)]
    assert [[a["bbox"] for a in frame] for frame in annotations] == [
        [[4, 6, 24, 30]],
        [],
        [[30, 10, 45, 20]],
        [],
    ]
    kept = annotations[2][0]["segmentation"]
    np.testing.assert_array_equal(mask_util.decode(kept), mask)


def test_videos_that_share_a_folder_are_named_by_their_id(load, content) -> None:
    content["videos"][1]["file_names"] = ["ab/00001.jpg"]
    assert [d["video_id"] for d in load(content, unlisted_frames="none")] == ["1", "1", "1", "2"]


def _track(**fields: Any):
    return lambda content: content["annotations"][0].update(fields)


def _video(**fields: Any):
    return lambda content: content["videos"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_track(id=32), "the id 32 is there twice in 'annotations'"),
        (_track(video_id=9), "annotations id 31: video_id 9 is not the id of any of the videos"),
        (_track(category_id=1), "annotations id 31, frame 0: category_id 1 is not the id of any"),
        (_track(category_id=None), "'category_id' must be an integer, got None"),
        (_track(bboxes=[None]), "'bboxes' must have an entry for each of the 3 frames .* got 1"),
        (_track(bboxes="x"), "'bboxes' must have an entry for each of the 3 frames .* got 'x'"),
        (_track(segmentations=[None] * 4), "'segmentations' must have an entry .* got 4"),
        (_track(bboxes=[None, [1, 2], None]), "annotations id 31, frame 1: bbox must be 4 finite"),
        (_track(segmentations=[[[1]], None, None]), "annotations id 31, frame 0: a polygon"),
        (_video(id=2), "the id 2 is there twice in 'videos'"),
        (_video(width=0), "videos id 1: 'width' must be an integer of at least 1, got 0"),
        (_video(file_names=[]), "videos id 1: 'file_names' must be a list of file names"),
        (_video(file_names=["ab/1.jpg", 2, 3]), "'file_names' must be a list of file names"),
        (_video(file_names=["ab/0.jpg", "ab/1.jpg", "ab/0.jpg"]), "'ab/0.jpg' is listed twice"),
        (_video(file_names=["ab/0.jpg", "ab/2.jpg", "ab/1.jpg"]), "listed in another order"),
        (_video(file_names=["/ab/0.jpg", "ab/1.jpg", "ab/2.jpg"]), "'/ab/0.jpg' must be a rel"),
        (_video(file_names=["ab/0.jpg", "../1.jpg", "ab/2.jpg"]), r"'\.\./1.jpg' must be a rel"),
        (lambda c: c.update(annotations={}), "lacks the list 'annotations'"),
        (lambda c: c.update(videos=[], annotations=[]), "'set' is empty"),
    ],
)
def test_malformed_files(load, content, change, message: str) -> None:
    change(content)
    with pytest.raises(ValueError, match=message):
        load(content)


def test_cut_file(load, content, write_json) -> None:
    path = write_json(content)
    path.write_bytes(path.read_bytes()[:-20])
    register_youtube_vis("set", path, path.parent)
    with pytest.raises(ValueError, match=r"labels\.json is not valid JSON"):
        DatasetCatalog.get("set")
