from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coded_video import shown_number, write_coded_video
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T

from iff_detectron2.data import VIDDatasetMapper, register_from_specs, register_video_files

pytestmark = pytest.mark.usefixtures("clean_catalogs")

NUM_FRAMES = 30


@pytest.fixture
def content(coco_content) -> dict[str, Any]:
    """Frames 4, 11 and 29 of the first file and 0 and 1 of the second are labelled."""
    for video in coco_content["videos"]:
        video["file_name"] = f"{video['name']}.avi"
    for image, number in zip(coco_content["images"], (4, 11, 29, 0, 1), strict=True):
        image["frame_id"] = number
        for key in ("file_name", "width", "height"):
            del image[key]
    return coco_content


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    write_coded_video(root / "first.avi", "XVID", NUM_FRAMES)
    write_coded_video(root / "second.avi", "MJPG", 5)
    return root


@pytest.fixture
def load(write_json, videos):
    def load(content: dict, **options: Any) -> list[dict]:
        register_video_files("set", write_json(content), videos, **options)
        return DatasetCatalog.get("set")

    return load


def test_frames_by_number(load, content, videos) -> None:
    dicts = load(content)
    assert [(d["file_name"], d["frame_index"], d["video_length"]) for d in dicts] == [
        (f"{videos}/first.avi#frame=4", 4, 30),
        (f"{videos}/first.avi#frame=11", 11, 30),
        (f"{videos}/first.avi#frame=29", 29, 30),
        (f"{videos}/second.avi#frame=0", 0, 5),
        (f"{videos}/second.avi#frame=1", 1, 5),
    ]
    assert {(d["width"], d["height"]) for d in dicts} == {(96, 64)}  # as the files say
    assert [a["bbox"] for a in dicts[0]["annotations"]] == [[4, 6, 24, 30], [30, 6, 50.5, 30]]
    assert len(MetadataCatalog.get("set").frame_index()["first"]) == NUM_FRAMES


def test_the_mapper_reads_key_frame_and_unlabelled_refs(load, content) -> None:
    dicts = load(content)
    mapper = VIDDatasetMapper(
        is_train=True,
        augmentations=[T.RandomFlip(prob=1.0)],
        image_format="BGR",
        frame_index=MetadataCatalog.get("set").frame_index(),
        num_refs=4,
        max_offset=9,
    )
    seen = set()
    for _ in range(8):
        sample = mapper(dicts[1])
        frames = [sample["image"], *sample["ref_images"]]
        for frame, offset in zip(frames, [0, *sample["ref_offsets"]], strict=True):
            upright = np.ascontiguousarray(frame.permute(1, 2, 0).numpy()[:, ::-1])
            assert shown_number(upright) == 11 + offset
            seen.add(11 + offset)
        assert sample["instances"].gt_boxes.tensor.tolist() == [[96 - 26, 6, 96 - 6, 30]]
    assert len(seen - {4, 11, 29}) > 5


def test_numbers_from_1(load, content, videos, write_json) -> None:
    for image in content["images"]:
        image["frame_id"] += 1
    assert [d["frame_index"] for d in load(content, first_frame=1)] == [4, 11, 29, 0, 1]
    register_from_specs([f"spec=video_files:{videos}@{write_json(content)}@from_1"])
    assert DatasetCatalog.get("spec") == DatasetCatalog.get("set")


def test_a_given_length_and_size_spare_the_files(load, content) -> None:
    """Nothing is opened: these files do not exist."""
    for video in content["videos"]:
        video.update(file_name=f"none/{video['name']}.mp4", length=30, width=96, height=64)
    dicts = load(content)
    assert dicts[4]["file_name"].endswith("none/second.mp4#frame=1")
    assert dicts[4]["video_length"] == 30


def test_a_wrong_length_is_found_by_the_mapper(load, content) -> None:
    content["videos"][0]["length"] = 40
    content["images"][2]["frame_id"] = 35
    dicts = load(content)
    mapper = VIDDatasetMapper(
        is_train=False,
        augmentations=[],
        image_format="BGR",
        frame_index=MetadataCatalog.get("set").frame_index(),
    )
    with pytest.raises(ValueError, match=r"first\.avi has 30 frames, frame 35 was asked for"):
        mapper(dicts[2])


def _video(**fields: Any):
    return lambda content: content["videos"][0].update(fields)


def _image(number: int, **fields: Any):
    return lambda content: content["images"][number].update(fields)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_image(2, frame_id=30), ValueError, r"images id 13: frame 30 is outside of .*first\.avi"),
        (_image(1, frame_id=4), ValueError, "images id 12: frame 4 comes after frame 4"),
        (_image(1, frame_id=3), ValueError, r"frame 3 comes after frame 4 \(image 11\)"),
        (_image(0, video_id=None), ValueError, "images id 11: 'video_id' must name its video"),
        (_video(file_name="gone.avi"), FileNotFoundError, r"videos id 7: the video .*gone\.avi"),
        (_video(file_name="/first.avi"), ValueError, "videos id 7: '/first.avi' must be a relat"),
        (_video(file_name="../first.avi"), ValueError, "must be a relative path without"),
        (_video(file_name="concat:a.avi|b.avi"), ValueError, "must be a relative path"),
        (_video(file_name="a.m3u8", length=5), ValueError, r"a\.m3u8 must be a file of the kinds"),
        (_video(file_name=None), ValueError, "videos id 7: 'file_name' must be a text"),
        (_video(length=0), ValueError, "videos id 7: 'length' must be an integer of at least 1"),
    ],
)
def test_malformed_files(load, content, change, error, message: str) -> None:
    change(content)
    with pytest.raises(error, match=message):
        load(content)


def test_no_video_behind_the_name(load, content, videos) -> None:
    (videos / "text.avi").write_bytes(b"no\0video" * 9)
    content["videos"][0]["file_name"] = "text.avi"
    with pytest.raises(OSError, match=r"text\.avi cannot be opened"):
        load(content)


def test_bad_first_frame(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first_frame must be 0 or 1, got 2"):
        register_video_files("set", tmp_path / "x.json", tmp_path, first_frame=2)
