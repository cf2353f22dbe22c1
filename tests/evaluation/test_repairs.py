"""What a repair gains: by hand, and against repaired boxes in the plain, exact protocol."""

from __future__ import annotations

import math

import numpy as np
import pytest
from plain_protocol import (
    in_frame_order,
    plain_evaluate,
    plain_iou,
    plain_threshold,
    random_case,
    to_arrays,
)

from iff_detectron2.evaluation import MOTION_RANGES
from iff_detectron2.evaluation.protocols import ALL_BOXES
from iff_detectron2.evaluation.repairs import REPAIRS, repair_gains

SQUARE, FAR, LOST = (0, 0, 49, 49), (200, 0, 249, 49), (0, 200, 49, 249)


def gains(boxes, dets, num_classes=2):
    result = repair_gains(*to_arrays(2, num_classes, boxes, dets))
    return dict(zip(REPAIRS, result.values[:, 0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("det", "kind", "gain"),
    [
        # Before: a false alarm, then a hit, of two boxes: AP 0.5 * 0.5.
        ((0, 0, 0.9, (30, 0, 79, 49)), "localisation", 0.75),  # two hits: AP 1
        ((0, 0, 0.9, (600, 0, 649, 49)), "background", 0.25),  # one hit, first: AP 0.5
    ],
)
def test_a_false_alarm_before_a_hit(det, kind, gain):
    boxes = [(0, 0, SQUARE, False, 1.0), (1, 0, FAR, False, 1.0)]
    found = gains(boxes, [det, (1, 0, 0.5, FAR)], num_classes=1)
    missed = 0.0 if kind == "localisation" else 0.25  # one box of one, behind a false alarm
    assert found == {**dict.fromkeys(REPAIRS, 0.0), kind: gain, "missed": missed}


def test_a_class_error_gives_its_hit_to_the_other_class():
    boxes = [(0, 0, SQUARE, False, 1.0), (0, 1, FAR, False, 1.0)]
    found = gains(boxes, [(0, 0, 0.9, FAR), (0, 0, 0.8, SQUARE)])
    # Class 0: AP 0.5 -> 1, class 1: 0 -> 1. No box is missed that the repair does not find.
    assert found == {**dict.fromkeys(REPAIRS, 0.0), "class": 0.75}


def test_the_best_of_two_gets_the_box_and_the_other_goes():
    near = (30, 0, 79, 49)
    boxes = [(0, 0, SQUARE, False, 1.0)]
    found = gains(boxes, [(0, 0, 0.9, near), (0, 0, 0.8, near)], num_classes=1)
    assert found["localisation"] == 1.0
    found = gains(boxes, [(0, 0, 0.9, near), (0, 0, 0.8, SQUARE)], num_classes=1)
    assert found["localisation"] == 0.5  # the box is taken: the detection goes


def test_a_duplicate_goes():
    boxes = [(0, 0, SQUARE, False, 1.0), (1, 0, FAR, False, 1.0)]
    dets = [(0, 0, 0.9, SQUARE), (0, 0, 0.8, SQUARE), (1, 0, 0.7, FAR)]
    found = gains(boxes, dets, num_classes=1)
    assert found == {
        **dict.fromkeys(REPAIRS, 0.0),
        "duplicate": pytest.approx(1 - (0.5 + 0.5 * 2 / 3)),
    }


def test_a_class_that_is_missed_altogether():
    boxes = [(0, 0, SQUARE, False, 1.0), (0, 1, LOST, False, 1.0)]
    found = gains(boxes, [(0, 0, 0.9, SQUARE)])
    assert found == {**dict.fromkeys(REPAIRS, 0.0), "missed": 0.5}


def test_nothing_to_find_is_no_number():
    result = repair_gains(*to_arrays(2, 1, [], []))
    assert result.ranges == ["all", "slow", "medium", "fast"]
    assert all(math.isnan(value) for value in result.values.ravel())


def plain_repairs(num_frames, num_classes, boxes, dets):
    """Repair box after box and detection after detection; yields kind, boxes, detections."""
    taken: dict[int, int] = {}  # detection -> box
    order = sorted(range(len(dets)), key=lambda row: (dets[row][0], -dets[row][2]))
    for row in order:
        frame, class_id, _, box = dets[row]
        best = None
        for k, (of, name, there, _, _) in enumerate(boxes):
            overlap = plain_iou(box, there)
            fits = of == frame and name == class_id and overlap >= plain_threshold(there)
            better = best is None or overlap > plain_iou(box, boxes[best][2])
            if fits and k not in taken.values() and better:
                best = k
        if best is not None:
            taken[row] = best
    kinds, target = {}, {}
    for row, (frame, class_id, _, box) in enumerate(dets):
        if row in taken:
            continue
        near = {k: plain_iou(box, b[2]) for k, b in enumerate(boxes) if b[0] == frame}
        enough = {k for k, overlap in near.items() if overlap >= plain_threshold(boxes[k][2])}
        same = {k for k in near if boxes[k][1] == class_id}
        loose = {k for k in same if near[k] * 10 >= 1}
        for kind, fits in (
            ("duplicate", enough & same),
            ("class", enough - same),
            ("localisation", loose),
        ):
            if fits:
                kinds[row], target[row] = kind, max(sorted(fits, reverse=True), key=near.get)
                break
        else:
            kinds[row] = "background"
    found = set(taken.values())
    for kind in ("localisation", "class", "duplicate", "background"):
        repaired, given = [], set(taken.values())
        winners = {}
        for row in sorted(range(len(dets)), key=lambda row: -dets[row][2]):
            if kinds.get(row) == kind and kind in ("localisation", "class"):
                k = target[row]
                if k not in given:
                    given.add(k)
                    winners[row] = k
        found |= given
        for row, det in enumerate(dets):
            if row in winners:
                k = winners[row]
                repaired.append((det[0], boxes[k][1], det[2], boxes[k][2]))
            elif kinds.get(row) != kind:
                repaired.append(det)
        yield kind, boxes, repaired
    left = [b if k in found else (*b[:3], True, b[4]) for k, b in enumerate(boxes)]
    yield "missed", left, dets


def mean(aps):
    known = [ap for ap in aps if ap is not None]
    return float(sum(known) / len(known))


@pytest.mark.parametrize("seed", range(12))
def test_gains_are_those_of_repaired_boxes(seed):
    case = random_case(seed, num_frames=8, num_classes=2, num_boxes=24, num_dets=60)
    num_frames, num_classes, boxes, dets = case
    boxes = list({b[:3]: b for b in boxes}.values())  # which of two equal boxes is taken is a tie
    dets = in_frame_order(dets)
    result = repair_gains(*to_arrays(num_frames, num_classes, boxes, dets))
    for column, wanted in enumerate((ALL_BOXES, *MOTION_RANGES)):
        before = plain_evaluate(num_frames, num_classes, boxes, dets, wanted)
        for kind, left, repaired in plain_repairs(num_frames, num_classes, boxes, dets):
            after = plain_evaluate(num_frames, num_classes, left, repaired, wanted)
            changes = [
                None if old is None else (1 if new is None else new) - old
                for old, new in zip(before, after, strict=True)
            ]
            gain = result.values[REPAIRS.index(kind), column]
            if all(change is None for change in changes):
                assert math.isnan(gain)
            else:
                assert gain == pytest.approx(mean(changes), abs=1e-12), (kind, wanted.name)
    assert np.abs(np.nan_to_num(result.values)).max() > 0.05
