"""What a viewer notices, by hand."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest

from iff_detectron2.evaluation import evaluate_detections, format_result
from iff_detectron2.evaluation.tables import result_to_json
from iff_detectron2.structures import Detections, GroundTruth

BOX = [0, 0, 9, 9]  # 10 x 10 pixels


def make_truth(tracks, length, ignored=None):
    """One video; `tracks` lists (track, frame, box), all of one class."""
    return GroundTruth(
        num_frames=length,
        class_names=["dog"],
        frames=[frame for _, frame, _ in tracks],
        boxes=[box for _, _, box in tracks],
        classes=[0] * len(tracks),
        ignored=[False] * len(tracks) if ignored is None else ignored,
        tracks=[track for track, _, _ in tracks],
        places=[(0, frame) for frame in range(length)],
    )


def make_found(rows, tracked=False):
    """`rows` lists (frame, box, score) and the track where `tracked`."""
    return Detections(
        frames=[row[0] for row in rows],
        boxes=[row[1] for row in rows],
        scores=[row[2] for row in rows],
        classes=[0] * len(rows),
        track_ids=[row[3] for row in rows] if tracked else None,
    )


def test_stability_by_hand():
    """Found, missed, shifted by a pixel, two pixels taller; a second track is never found."""
    away = [100, 100, 119, 119]
    truth = make_truth([(7, t, BOX) for t in range(4)] + [(3, t, away) for t in (0, 1)], 4)
    found = make_found([(0, BOX, 0.9), (2, [1, 0, 10, 9], 0.9), (3, [0, 0, 9, 11], 0.9)])
    values = evaluate_detections(truth, found, "devkit").viewing.values
    # Two changes of three possible, and none of one.
    assert values["fragment_error"] == pytest.approx((2 / 3 + 0) / 2)
    # Offsets 0, 0.1, 0 in x and 0, 0, 0.1 in y: each varies by 0.1 sqrt(2) / 3.
    assert values["centre_error"] == pytest.approx(2 * 0.1 * math.sqrt(2) / 3)
    scale = (math.sqrt(1.2) - 1) * math.sqrt(2) / 3  # of 1, 1, sqrt(120 / 100)
    ratio = (1 - 10 / 12) * math.sqrt(2) / 3  # of 1, 1, 10 / 12
    assert values["scale_ratio_error"] == pytest.approx(scale + ratio)
    assert values["stability_error"] == pytest.approx(
        1 / 3 + 2 * 0.1 * math.sqrt(2) / 3 + scale + ratio
    )


def test_perfect_detections_are_steady_at_once():
    truth = make_truth([(0, t, [t, 0, t + 20, 20]) for t in range(5)], 5)
    found = make_found([(t, [t, 0, t + 20, 20], 0.9) for t in range(5)])
    values = evaluate_detections(truth, found).viewing.values
    assert set(values.values()) == {0.0}


def test_delay_by_hand():
    """A track of frames 5 to 9 found at 7 and, weakly, at 5; one of 0 to 40 that is never found."""
    away = [100, 100, 119, 119]
    truth = make_truth([(0, t, BOX) for t in range(5, 10)] + [(1, t, away) for t in range(41)], 41)
    clutter = [(0, [50, 0, 59, 9], score) for score in (0.8, 0.7, 0.6, 0.5, 0.4)]
    found = make_found([(7, BOX, 0.9), (5, BOX, 0.2), *clutter])
    viewing = evaluate_detections(truth, found, "devkit").viewing
    # F1 is 2 / (1 + 46) at 0.9 and 4 / (7 + 46) at 0.2; the lost track counts 30 of 40 frames.
    assert viewing.score == 0.2
    assert viewing.values["delay"] == (0 + 30) / 2
    # 46 boxes: a tenth allows four of the five false alarms, so that 0.4 is out; 0.2 allows all.
    delays = [Fraction(2 + 30, 2), *[Fraction(0 + 30, 2)] * 5]
    expected = 1 / (sum(1 / (delay + 1) for delay in delays) / 6) - 1
    assert viewing.values["average_delay"] == pytest.approx(float(expected))


def test_hota_and_idf1_by_hand():
    """One object in four frames, found exactly, whose id changes in the middle.

    HOTA: every box is found; of its four and two boxes each pair of ids shares two of four:
    sqrt(1 * 2 / 4) at every threshold. IDF1: two of four are of the one id: 2 * 2 / (4 + 4).
    """
    pytest.importorskip("trackeval", reason="the extra `tracks` is not installed")
    truth = make_truth([(5, t, BOX) for t in range(4)], 4)
    rows = [(t, BOX, 0.9, 1 if t < 2 else 2) for t in range(4)]
    viewing = evaluate_detections(truth, make_found(rows, tracked=True)).viewing
    assert viewing.values["HOTA"] == pytest.approx(math.sqrt(0.5))
    assert viewing.values["IDF1"] == pytest.approx(0.5)
    assert "HOTA" not in evaluate_detections(truth, make_found(rows)).viewing.values
    # A false track in another place: DetA is 4 / 6, and its ids take part in IDF1.
    rows += [(t, [50, 0, 59, 9], 0.9, 3) for t in range(2)]
    viewing = evaluate_detections(truth, make_found(rows, tracked=True)).viewing
    assert viewing.values["HOTA"] == pytest.approx(math.sqrt(4 / 6 * 0.5))
    assert viewing.values["IDF1"] == pytest.approx(2 * 2 / (4 + 6))


def test_without_trackeval_the_rest_is_there(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "trackeval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "trackeval", None)
    truth = make_truth([(0, t, BOX) for t in range(2)], 2)
    found = make_found([(t, BOX, 0.9, 1) for t in range(2)], tracked=True)
    result = evaluate_detections(truth, found)
    assert result.viewing.values["delay"] == 0
    assert "pip install trackeval" in format_result(result)


def test_tables_and_json():
    truth = make_truth([(0, t, BOX) for t in range(2)], 2)
    result = evaluate_detections(truth, make_found([(0, BOX, 0.75)]))
    text = format_result(result)
    for part in ("along tracks, scores from 0.7500", "fragment error", "average delay (frames)"):
        assert part in text
    saved = result_to_json(result)["viewing"]
    assert (saved["score"], saved["fragment_error"]) == (0.75, 1.0)
    assert saved["centre_error"] is None  # found once: nothing can vary


def test_without_tracks_there_is_nothing_to_say():
    truth = GroundTruth(1, ["dog"], [0], [BOX], [0], [False])
    result = evaluate_detections(truth, make_found([(0, BOX, 0.9)]))
    assert result.viewing is None
    assert "along tracks" not in format_result(result)
    assert result_to_json(result)["viewing"] is None


def test_ignored_boxes_are_no_part_of_a_track():
    boxes = [(0, t, BOX) for t in range(3)]
    truth = make_truth(boxes, 3, ignored=[False, True, False])
    found = make_found([(0, BOX, 0.9), (2, BOX, 0.9)])
    assert evaluate_detections(truth, found).viewing.values["fragment_error"] == 0
    np.testing.assert_equal(evaluate_detections(truth, found).points.overall.recall, 1.0)
