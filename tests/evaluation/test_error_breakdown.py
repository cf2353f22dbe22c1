"""Hand-made detections of every kind of error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from plain_protocol import in_frame_order, random_case, to_arrays

from iff_detectron2.evaluation import MOTION_RANGES
from iff_detectron2.evaluation import error_breakdown as module
from iff_detectron2.evaluation.error_breakdown import KINDS, break_down_errors

SQUARE, FAR = (0, 0, 49, 49), (200, 0, 249, 49)


def kinds(boxes, dets, num_classes=2, num_frames=2):
    errors = break_down_errors(*to_arrays(num_frames, num_classes, boxes, dets))
    return [KINDS[kind] for kind in errors.kinds], errors


# Enough boxes in frame 1 for every detection of class 0 to be looked at.
FILL = [(1, 0, (100 * i, 0, 100 * i + 49, 49), False, 1.0) for i in range(6)]


@pytest.mark.parametrize(
    ("det", "kind"),
    [
        ((0, 0, 0.5, SQUARE), "duplicate"),
        ((0, 0, 0.5, (8, 0, 57, 49)), "duplicate"),  # IoU 42 / 58
        ((0, 0, 0.5, (30, 0, 79, 49)), "localisation"),  # IoU 20 / 80
        ((0, 0, 0.5, (40, 0, 89, 49)), "localisation"),  # IoU 10 / 90, just over 0.1
        ((0, 0, 0.5, (41, 0, 90, 49)), "background"),  # IoU 9 / 91, just under it
        ((0, 0, 0.5, FAR), "class"),  # a box of class 1 is there
        ((0, 0, 0.5, (230, 0, 279, 49)), "background"),  # near a box of another class only
        ((0, 0, 0.5, (600, 0, 649, 49)), "background"),
    ],
)
def test_kinds(det, kind):
    boxes = [(0, 0, SQUARE, False, 1.0), (0, 1, FAR, False, 1.0), *FILL]
    found, errors = kinds(boxes, [(0, 0, 0.9, SQUARE), det])
    assert found == ["correct", kind]
    assert errors.counts() == {
        **dict.fromkeys(KINDS, 0),
        "correct": 1,
        kind: 1,
        "missed": 1 + len(FILL),
    }
    assert errors.by_class().tolist()[1] == [0, 0, 0, 0, 0, 1]


def test_a_class_error_goes_before_a_localisation_error():
    boxes = [(0, 0, SQUARE, False, 1.0), (0, 1, (30, 0, 79, 49), False, 1.0), *FILL]
    found, _ = kinds(boxes, [(0, 0, 0.9, SQUARE), (0, 0, 0.5, (31, 0, 80, 49))])
    assert found == ["correct", "class"]


def test_as_many_detections_are_looked_at_as_there_are_boxes():
    boxes = [(0, 0, SQUARE, False, 1.0), (1, 0, SQUARE, False, 1.0)]
    dets = [(0, 0, 0.9, FAR), (0, 0, 0.8, SQUARE), (1, 0, 0.7, SQUARE), (0, 1, 0.99, FAR)]
    found, errors = kinds(boxes, dets)
    assert found == ["background", "correct"]
    assert errors.missed.tolist() == [False, True]  # found only by the third detection
    assert errors.matched.tolist() == [False, True, False, True]


def test_ignored_boxes_count_neither_way():
    boxes = [(0, 0, SQUARE, True, 1.0), (0, 0, FAR, False, 1.0)]
    found, errors = kinds(boxes, [(0, 0, 0.9, SQUARE), (0, 0, 0.8, FAR), (0, 0, 0.7, SQUARE)])
    assert found == ["correct"]  # the first is left out and takes no place
    assert errors.missed.tolist() == [False, False]
    assert errors.ignored.tolist() == [True, False, False]


def test_missed_share_of_a_range():
    boxes = [(0, 0, SQUARE, False, 0.95), (0, 0, FAR, False, 0.3), (1, 0, FAR, False, 0.2)]
    _, errors = kinds(boxes, [(0, 0, 0.9, SQUARE), (0, 0, 0.8, FAR)])
    slow, medium, fast = (errors.missed_share(wanted) for wanted in MOTION_RANGES)
    assert (slow, fast) == (0.0, 0.5)
    assert math.isnan(medium)


def test_nothing_at_all():
    for boxes in ([], [(0, 0, SQUARE, False, 1.0)]):
        found, errors = kinds(boxes, [])
        assert found == []
        assert errors.counts()["missed"] == len(boxes)


@pytest.mark.parametrize("seed", range(5))
def test_correct_and_missed_make_up_the_boxes(seed, monkeypatch):
    case = random_case(seed, num_frames=10, num_boxes=60, num_dets=300)
    errors = break_down_errors(*to_arrays(*case))
    counts = errors.counts()
    to_find = sum(not box[3] for box in case[2])
    assert counts["correct"] + counts["missed"] == to_find
    assert sum(counts[kind] for kind in KINDS) == len(errors.chosen) <= to_find
    assert counts["correct"] > 5
    np.testing.assert_array_equal(errors.by_class().sum(axis=0), list(counts.values()))
    assert (errors.detections.frames == [d[0] for d in in_frame_order(case[3])]).all()
    monkeypatch.setattr(module, "PAIRS_PER_CHUNK", 7)
    again = break_down_errors(*to_arrays(*case))
    np.testing.assert_array_equal(again.kinds, errors.kinds)
