"""Track files, read back by independent means."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from iff_detectron2.data.datasets.mot.challenge import read_truth
from iff_detectron2.postprocessing import (
    NO_TRACK,
    VideoTracks,
    seq_nms,
    write_tracks,
)


def make_tracks(video_id="val/video_1", **changes):
    columns = {
        "frames": [1, 0, 0, 1],
        "track_ids": [2, 2, 1, NO_TRACK],
        "boxes": [[10, 20, 30.5, 60], [9, 20, 29.5, 60], [0, 0, 5, 5], [7, 7, 9, 9]],
        "scores": [0.5, 0.25, 1.0, 0.1],
        "classes": [1, 1, 0, 0],
        "class_names": ["cat", "dog"],
    }
    return VideoTracks(video_id, **{**columns, **changes})


def test_json(tmp_path):
    empty = VideoTracks("val/video_2", [], [], [], [], [])
    assert write_tracks(tmp_path / "a/tracks.json", [make_tracks(), empty]) == [
        tmp_path / "a/tracks.json"
    ]
    assert json.loads((tmp_path / "a/tracks.json").read_text()) == {
        "videos": [
            {
                "video_id": "val/video_1",
                "tracks": [
                    {
                        "track_id": 1,
                        "category_id": 0,
                        "category": "cat",
                        "score": 1.0,
                        "boxes": [{"frame_index": 0, "bbox": [0, 0, 5, 5], "score": 1.0}],
                    },
                    {
                        "track_id": 2,
                        "category_id": 1,
                        "category": "dog",
                        "score": 0.375,
                        "boxes": [
                            {"frame_index": 0, "bbox": [9, 20, 20.5, 40], "score": 0.25},
                            {"frame_index": 1, "bbox": [10, 20, 20.5, 40], "score": 0.5},
                        ],
                    },
                ],
            },
            {"video_id": "val/video_2", "tracks": []},
        ]
    }


def test_csv(tmp_path):
    write_tracks(tmp_path / "t.csv", [make_tracks('a,"b"'), make_tracks("c", class_names=None)])
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert rows[1] == {
        "video_id": 'a,"b"',
        "frame_index": "0",
        "track_id": "2",
        "category_id": "1",
        "category": "dog",
        "score": "0.25",
        **{"x1": "9.0", "y1": "20.0", "x2": "29.5", "y2": "60.0"},
    }
    assert [row["category"] for row in rows] == ["cat", "dog", "dog", "0", "1", "1"]


def test_mot_challenge_is_read_by_our_reader(tmp_path):
    write_tracks(tmp_path / "sequence.txt", [make_tracks()])
    rows = list(read_truth(tmp_path / "sequence.txt", num_frames=2))
    assert [(row.frame, row.track_id, row.box) for row in rows] == [
        (1, 1, (0, 0, 5, 5)),
        (1, 2, (9, 20, 20.5, 40)),
        (2, 2, (10, 20, 20.5, 40)),
    ]
    first = (tmp_path / "sequence.txt").read_text().splitlines()[0]
    assert first == "1,1,0.00,0.00,5.00,5.00,1.0000,-1,-1,-1"


def test_mot_challenge_folder_stays_in_the_folder(tmp_path):
    videos = [make_tracks("val/video_1"), make_tracks("../../up")]
    paths = write_tracks(tmp_path / "mot", videos)
    assert paths == [tmp_path / "mot/val_video_1.txt", tmp_path / "mot/.._.._up.txt"]
    assert sorted(path.name for path in (tmp_path / "mot").iterdir()) == [
        ".._.._up.txt",
        "val_video_1.txt",
    ]
    with pytest.raises(ValueError, match=r"hold both video 'a/b' and 'a_b'"):
        write_tracks(tmp_path / "twice", [make_tracks("a/b"), make_tracks("a_b")])
    assert not (tmp_path / "twice").exists()


def test_from_instances_of_seq_nms(tmp_path):
    video = [
        Instances(
            (50, 50),
            pred_boxes=Boxes(torch.tensor([[t, 0.0, t + 20, 20], [30.0 * t, 30, 30 * t + 9, 40]])),
            scores=torch.tensor([0.5, 0.5]),
            pred_classes=torch.tensor([1, 0]),
        )
        for t in range(3)
    ]
    tracks = VideoTracks.from_instances("v", enumerate(seq_nms(video)), ["cat", "dog"])
    np.testing.assert_array_equal(tracks.frames, [0, 1, 2])
    np.testing.assert_array_equal(tracks.track_ids, [1, 1, 1])
    np.testing.assert_array_equal(tracks.boxes[:, 0], [0, 1, 2])
    assert {tracks.category(class_id) for class_id in tracks.classes} == {"dog"}
    assert len(VideoTracks.from_instances("v", []).frames) == 0


def test_tracks_over_a_score():
    tracks = make_tracks()  # track 1 has the mean 1.0, track 2 has 0.375
    assert tracks.with_score(0.4).track_ids.tolist() == [1]
    assert tracks.with_score(0.375).track_ids.tolist() == [1, 2, 2]
    assert tracks.with_score(1.1).track_ids.tolist() == []
    assert tracks.with_score(0.4).category(1) == "dog"


def test_wrong_tracks_are_named(tmp_path):
    with pytest.raises(ValueError, match="video 'v', frame 0: track 1 has two boxes"):
        make_tracks("v", track_ids=[1, 1, 1, 2])
    with pytest.raises(ValueError, match="4 frames, 3 track_ids"):
        make_tracks(track_ids=[1, 2, 3])
    with pytest.raises(ValueError, match=r"holds one video, not 2; give a folder"):
        write_tracks(tmp_path / "t.txt", [make_tracks(), make_tracks()])
    with pytest.raises(ValueError, match=r"t\.xml: tracks are written as \.json, \.csv or \.txt"):
        write_tracks(tmp_path / "t.xml", [make_tracks()])
    assert list(tmp_path.iterdir()) == []
