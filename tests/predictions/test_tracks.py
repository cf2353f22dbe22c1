"""Files of tracks, read back by independent means."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from iff_detectron2.data.datasets.mot.challenge import read_truth
from iff_detectron2.predictions import count_tracks, on_tracks, write_tracks
from iff_detectron2.structures import NO_TRACK, Detections

NAMES = ["cat", "dog"]


def make_frames(*video_ids, **more):
    """Return two frames per video, the second number of each image id is its index."""
    return [
        {"image_id": 10 * number + index, "video_id": video_id, "frame_index": index, **more}
        for number, video_id in enumerate(video_ids)
        for index in range(2)
    ]


def make_tracks():
    """Return two tracks over the two frames of a video, out of order, and a box on none."""
    return Detections(
        frames=[1, 0, 0, 1],
        track_ids=[2, 2, 1, NO_TRACK],
        boxes=[[10, 20, 30.5, 60], [9, 20, 29.5, 60], [0, 0, 5, 5], [7, 7, 9, 9]],
        scores=[0.5, 0.25, 1.0, 0.1],
        classes=[1, 1, 0, 0],
    )


def two_videos():
    one = make_tracks()
    return Detections.concatenate([one, replace(one, frames=one.frames + 2)])


def test_json(tmp_path):
    path = tmp_path / "a/tracks.json"
    assert write_tracks(path, make_tracks(), make_frames("v"), [18, 17]) == [path]
    first, second, third = json.loads(path.read_text())
    assert first == {
        **{"image_id": 0, "video_id": "v", "frame_index": 0, "category_id": 18},
        **{"bbox": [0, 0, 5, 5], "score": 1.0, "track_id": 1},
    }
    assert (second["track_id"], second["bbox"]) == (2, [9, 20, 20.5, 40])
    assert (third["track_id"], third["frame_index"], third["category_id"]) == (2, 1, 17)


def test_csv(tmp_path):
    frames = make_frames('a,"b"', "c")
    write_tracks(tmp_path / "t.csv", two_videos(), frames, [18, 17], NAMES)
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert rows[1] == {
        **{"video_id": 'a,"b"', "frame_index": "0", "frame_number": "0", "track_id": "2"},
        **{"category_id": "17", "category": "dog", "score": "0.25"},
        **{"x1": "9.0", "y1": "20.0", "x2": "29.5", "y2": "60.0"},
    }
    assert [row["video_id"] for row in rows] == ['a,"b"'] * 3 + ["c"] * 3
    write_tracks(tmp_path / "t.csv", make_tracks(), frames[:2])
    with (tmp_path / "t.csv").open(newline="") as stream:
        assert [row["category"] for row in csv.DictReader(stream)] == ["0", "1", "1"]


def test_mot_challenge_is_read_by_our_reader(tmp_path):
    write_tracks(tmp_path / "sequence.txt", make_tracks(), make_frames("v"))
    rows = list(read_truth(tmp_path / "sequence.txt", num_frames=2))
    assert [(row.number, row.track_id, row.box) for row in rows] == [
        (1, 1, (0, 0, 5, 5)),
        (1, 2, (9, 20, 29.5, 60)),
        (2, 2, (10, 20, 30.5, 60)),
    ]
    first = (tmp_path / "sequence.txt").read_text().splitlines()[0]
    assert first == "1,1,0.00,0.00,5.00,5.00,1.0000,-1,-1,-1"


@pytest.mark.parametrize(("start", "written"), [(401, [401, 401, 402]), (1, [1, 1, 2]),
                                                 (0, [1, 1, 2])])  # fmt: skip
def test_the_numbers_of_the_source_survive(tmp_path, start, written):
    """D7: frames 401 to 402 stay these; a source that counts from 0 is moved to MOT's 1."""
    frames = make_frames("v")
    for frame in frames:
        frame["frame_number"] = start + frame["frame_index"]
    write_tracks(tmp_path / "v.txt", make_tracks(), frames)
    lines = (tmp_path / "v.txt").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines] == written
    write_tracks(tmp_path / "v.json", make_tracks(), frames)
    saved = json.loads((tmp_path / "v.json").read_text())
    assert [result["frame_number"] for result in saved] == [start, start, start + 1]
    write_tracks(tmp_path / "v.csv", make_tracks(), frames)
    with (tmp_path / "v.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["frame_number"]) for row in rows] == [start, start, start + 1]
    assert [int(row["frame_index"]) for row in rows] == [0, 0, 1]


def test_mot_challenge_folder_stays_in_the_folder(tmp_path):
    paths = write_tracks(tmp_path / "mot", two_videos(), make_frames("val/video_1", "../../up"))
    assert paths == [tmp_path / "mot/val_video_1.txt", tmp_path / "mot/.._.._up.txt"]
    assert sorted(path.name for path in (tmp_path / "mot").iterdir()) == [
        ".._.._up.txt",
        "val_video_1.txt",
    ]
    assert paths[0].read_text() == paths[1].read_text()
    with pytest.raises(ValueError, match=r"hold both video 'a/b' and 'a_b'"):
        write_tracks(tmp_path / "twice", two_videos(), make_frames("a/b", "a_b"))
    assert not (tmp_path / "twice").exists()


def test_tracks_over_a_score():
    tracks, frames = two_videos(), make_frames("v", "w")
    assert count_tracks(tracks, frames) == 4
    # In each video track 1 has the mean 1.0, track 2 has 0.375.
    for least, expected in ((0.4, [1, 1]), (0.375, [1, 2, 2, 1, 2, 2]), (1.1, [])):
        assert on_tracks(tracks, frames, least).track_ids.tolist() == expected
    assert count_tracks(on_tracks(tracks, frames, 0.4), frames) == 2
    assert count_tracks(Detections.empty(), []) == 0


def test_wrong_tracks_are_named(tmp_path):
    frames = make_frames("v", "w")
    twice = replace(make_tracks(), track_ids=np.array([1, 1, 1, 2]))
    with pytest.raises(ValueError, match="video 'v', frame 0: track 1 has two boxes"):
        write_tracks(tmp_path / "t.json", twice, frames)
    with pytest.raises(ValueError, match=r"holds one video, not 2; give a folder"):
        write_tracks(tmp_path / "t.txt", two_videos(), frames)
    with pytest.raises(ValueError, match=r"t\.xml: tracks are written as \.json, \.csv or \.txt"):
        write_tracks(tmp_path / "t.xml", make_tracks(), frames)
    assert list(tmp_path.iterdir()) == []
