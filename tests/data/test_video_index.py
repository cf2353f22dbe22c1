from __future__ import annotations

import pickle

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data import (
    NumberedFrames,
    VideoIndex,
    build_video_index,
    listed_frames,
    register_imagenet_vid,
    register_mot_challenge,
)


def test_numbered_frames_are_a_sequence_of_files() -> None:
    frames = NumberedFrames("a/b", range(3, 6), suffix=".jpg")
    assert list(frames) == ["a/b/000003.jpg", "a/b/000004.jpg", "a/b/000005.jpg"]
    assert frames[-1] == "a/b/000005.jpg"
    assert list(frames[1:]) == ["a/b/000004.jpg", "a/b/000005.jpg"]
    assert "a/b/000004.jpg" in frames
    with pytest.raises(IndexError):
        frames[3]


def test_index_stays_small_and_pickles() -> None:
    index = VideoIndex({f"v{k}": NumberedFrames(f"root/v{k}", range(3000)) for k in range(100)})
    copied = pickle.loads(pickle.dumps(index))
    assert dict(copied) == dict(index)
    assert len(pickle.dumps(index)) < 20_000  # 300 000 frames


def test_a_video_without_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="'v' has no frames"):
        VideoIndex({"v": []})


def test_merges_datasets_and_stills(clean_catalogs, tiny_vid, mot_sequence) -> None:
    register_imagenet_vid("vid", tiny_vid(lengths=(4, 2), stills=1), "VID_train_15frames")
    register_imagenet_vid("vid_again", tiny_vid.root, "VID_val_videos")
    register_imagenet_vid("det", tiny_vid.root, "DET_train_30classes")
    register_mot_challenge("mot", mot_sequence(length=3))
    DatasetCatalog.register("plain", lambda: [{"file_name": "x.jpg"}])
    index = build_video_index(["vid", "det", "mot", "vid_again", "plain"])
    assert {video: len(frames) for video, frames in index.items()} == {
        "train/video_0": 4,
        "train/video_1": 2,
        "SEQ": 3,
    }


def test_clashing_video_ids(clean_catalogs, mot_sequence) -> None:
    folder = mot_sequence(length=6)
    register_mot_challenge("first", folder, frames=(1, 3))
    register_mot_challenge("last", folder, frames=(4, 6))
    with pytest.raises(
        ValueError, match=r"'SEQ' stands for other frames in 'first' than in 'last'"
    ):
        build_video_index(["first", "last"])


def test_same_frames_as_list_and_pattern_do_not_clash(clean_catalogs) -> None:
    pattern = VideoIndex({"v": NumberedFrames("f", range(2))})
    plain = VideoIndex({"v": ["f/000000.JPEG", "f/000001.JPEG"]})
    other = VideoIndex({"v": ["f/000000.JPEG", "f/000002.JPEG"]})
    for name, index in {"pattern": pattern, "plain": plain, "other": other}.items():
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).frame_index = lambda index=index: index
    assert len(build_video_index(["pattern", "plain"])) == 1
    with pytest.raises(ValueError, match="'v' stands for other frames"):
        build_video_index(["pattern", "other"])


def test_unregistered_name() -> None:
    with pytest.raises(ValueError, match=r"'no_such_set' is not registered; registered are .*vid"):
        build_video_index(["no_such_set"])
    assert "no_such_set" not in MetadataCatalog


def test_listed_frames() -> None:
    dicts = [
        {"video_id": "a", "frame_index": 5},
        {"file_name": "still"},
        {"video_id": "b", "frame_index": 1},
        {"video_id": "a", "frame_index": 0},
    ]
    assert listed_frames(dicts) == {"a": [0, 5], "b": [1]}
