"""What is around a worst frame, as a video with the tracks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from vid_cases import VIDEO_LENGTH

from iff_detectron2.evaluation import Detections
from iff_detectron2.evaluation.dataset_ground_truth import ground_truth_from_dicts
from iff_detectron2.evaluation.error_breakdown import break_down_errors
from iff_detectron2.evaluation.report import clips


def make_errors(dicts):
    truth = ground_truth_from_dicts(dicts, ["cat", "dog"])
    # One detection a frame of the first video: a dog that moves down by 10 pixels, on track 7.
    frames = np.arange(VIDEO_LENGTH - 1)
    boxes = np.array([[200, 10 + 10 * f, 240, 50 + 10 * f] for f in frames], dtype=float)
    tracks = np.full(len(frames), 7)
    detections = Detections(frames, boxes, np.full(len(frames), 0.5), np.ones_like(frames), tracks)
    return break_down_errors(truth, detections)


def frames_of(clip, folder):
    (folder / "c.webm").write_bytes(clip)
    video = cv2.VideoCapture(str(folder / "c.webm"))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    return frames


def test_a_clip_is_of_its_video_alone(dicts):
    assert clips.clip_rows(dicts, 2) == list(range(VIDEO_LENGTH))
    assert clips.clip_rows(dicts, VIDEO_LENGTH) == list(range(VIDEO_LENGTH, 2 * VIDEO_LENGTH))
    assert clips.clip_rows([{"image_id": 1}, {"image_id": 2}], 0) == [0]


def test_a_clip_reaches_so_far(monkeypatch, dicts):
    monkeypatch.setattr(clips, "REACH", 1)
    assert clips.clip_rows(dicts, 3) == [2, 3, 4]


def test_tracks_are_drawn_where_they_have_been(dicts, tmp_path):
    frames = frames_of(clips.make_clip(make_errors(dicts), dicts, 2), tmp_path)
    assert len(frames) == VIDEO_LENGTH
    scale = frames[0].shape[1] / 300
    # The dog's label moves right from its first centre (90, 105): a white line, later than the
    # first frame. The detection moves down from (220, 30): a line in colour.
    label = [f[round(105 * scale), round(100 * scale)].astype(int) for f in frames]
    found = [f[round(45 * scale), round(220 * scale)].astype(int) for f in frames]
    assert label[0].max() < 170
    assert label[4].min() > 190
    assert np.ptp(found[0]) < 40
    assert np.ptp(found[4]) > 60  # what the codec leaves of a thin line


def test_no_clip_of_a_single_frame_or_of_frames_of_two_sizes(dicts):
    errors = make_errors(dicts)
    alone = [{key: d[key] for key in ("image_id", "file_name")} for d in dicts]
    assert clips.make_clip(errors, alone, 2) is None
    cv2.imwrite(dicts[3]["file_name"], np.zeros((100, 300, 3), np.uint8))
    assert clips.make_clip(errors, dicts, 2) is None


def test_without_tracks_there_are_no_lines(dicts):
    errors = make_errors(dicts)
    truth = replace(errors.ground_truth, tracks=None, places=None)
    detections = replace(errors.detections, track_ids=None)
    errors = replace(errors, ground_truth=truth, detections=detections)
    assert list(clips._centres(errors, 2)) == []
