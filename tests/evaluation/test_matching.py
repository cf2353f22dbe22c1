"""Hand-computed cases of vid_protocol, Evaluation 1 and 3."""

from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.evaluation import Detections, GroundTruth
from iff_detectron2.evaluation import matching as matching_module
from iff_detectron2.evaluation.matching import iou_thresholds, match_detections

SLOW, MEDIUM, FAST, ALL = (0.9, 1.0), (0.7, 0.9), (0.0, 0.7), (0.0, 1.0)


def make_ground_truth(rows, num_frames, motion=None, num_classes=2):
    """Rows are (frame, class, x1, y1, x2, y2)."""
    array = np.array(rows, dtype=float).reshape(-1, 6)
    return GroundTruth(
        num_frames=num_frames,
        class_names=[f"class{i}" for i in range(num_classes)],
        frames=array[:, 0].astype(int),
        boxes=array[:, 2:],
        classes=array[:, 1].astype(int),
        ignored=np.zeros(len(array), dtype=bool),
        motion_iou=motion,
    )


def make_detections(rows):
    """Rows are (frame, class, score, x1, y1, x2, y2)."""
    array = np.array(rows, dtype=float).reshape(-1, 7)
    return Detections(
        frames=array[:, 0].astype(int),
        boxes=array[:, 3:],
        scores=array[:, 2],
        classes=array[:, 1].astype(int),
    )


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, 64 / 324), (24, 576 / 1156), (25, 0.5), (26, 0.5)],
)
def test_thresholds_of_square_boxes(side, expected):
    # 24: 0.4983 is below 0.5; 25: 625 / 1225 = 0.5102 is above it.
    box = [[10, 20, 10 + side - 1, 20 + side - 1]]
    assert iou_thresholds(np.array(box)).item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("side", "shift", "match"),
    [
        (8, 5, True),  # IoU 24 / 104 = 0.231 >= 0.198
        (8, 6, False),  # IoU 16 / 112 = 0.143
        (25, 8, True),  # IoU 425 / 825 = 0.515
        (25, 9, False),  # IoU 400 / 850 = 0.471: 25 pixels have no tolerance left
        (26, 8, True),  # IoU 468 / 884 = 0.529
        (26, 9, False),  # IoU 442 / 910 = 0.486
    ],
)
def test_small_boxes_need_less_overlap(side, shift, match):
    ground_truth = make_ground_truth([(0, 0, 0, 0, side - 1, side - 1)], 1)
    detections = make_detections([(0, 0, 0.9, shift, 0, shift + side - 1, side - 1)])
    matches = match_detections(ground_truth, detections)
    assert matches.boxes.tolist() == [0 if match else -1]
    assert matches.false_positive.tolist() == [[0.0 if match else 1.0]]


def test_iou_equal_to_the_threshold_matches():
    # 30 x 30 against its half, 30 x 15: IoU exactly 0.5.
    ground_truth = make_ground_truth([(0, 0, 0, 0, 29, 29)], 1)
    detections = make_detections([(0, 0, 0.9, 0, 0, 14, 29)])
    assert match_detections(ground_truth, detections).boxes.tolist() == [0]


def test_duplicate_is_a_false_positive():
    ground_truth = make_ground_truth([(0, 0, 0, 0, 49, 49)], 1)
    detections = make_detections([(0, 0, 0.8, 0, 0, 49, 49), (0, 0, 0.9, 5, 0, 54, 49)])
    matches = match_detections(ground_truth, detections)
    # The higher score wins, though it fits worse.
    assert matches.boxes.tolist() == [-1, 0]
    assert matches.false_positive.tolist() == [[1.0, 0.0]]


def test_second_best_box_is_taken_when_the_best_is_gone():
    ground_truth = make_ground_truth([(0, 0, 0, 0, 49, 49), (0, 0, 10, 0, 59, 49)], 1)
    detections = make_detections([(0, 0, 0.9, 0, 0, 49, 49), (0, 0, 0.8, 1, 0, 50, 49)])
    assert match_detections(ground_truth, detections).boxes.tolist() == [0, 1]


def test_equal_scores_count_in_the_order_given():
    ground_truth = make_ground_truth([(0, 0, 0, 0, 49, 49)], 1)
    row_a, row_b = (0, 0, 0.5, 5, 0, 54, 49), (0, 0, 0.5, 0, 0, 49, 49)
    assert match_detections(ground_truth, make_detections([row_a, row_b])).boxes.tolist() == [0, -1]
    assert match_detections(ground_truth, make_detections([row_b, row_a])).boxes.tolist() == [0, -1]


def test_equal_ious_take_the_first_box():
    ground_truth = make_ground_truth([(0, 0, 0, 0, 49, 49), (0, 0, 10, 0, 59, 49)], 1)
    detections = make_detections([(0, 0, 0.9, 5, 0, 54, 49)])
    assert match_detections(ground_truth, detections).boxes.tolist() == [0]


def test_class_and_frame_must_agree():
    ground_truth = make_ground_truth([(1, 0, 0, 0, 49, 49)], 3)
    same = [0.9, 0, 0, 49, 49]
    detections = make_detections([(0, 0, *same), (1, 1, *same), (1, 0, *same), (2, 0, *same)])
    assert match_detections(ground_truth, detections).boxes.tolist() == [-1, -1, 0, -1]


# Evaluation 3. Frame with a slow box (motion 0.95) at x 0..49 and a fast one (0.3) at x 200..249.
TWO_BOXES = [(0, 0, 0, 0, 49, 49), (0, 0, 200, 0, 249, 49)]
TWO_MOTIONS = [0.95, 0.3]


def weigh(ground_truth, detections, *ranges):
    return match_detections(ground_truth, detections, ranges).false_positive.T.tolist()


def test_false_positive_belongs_to_the_nearest_box():
    ground_truth = make_ground_truth(TWO_BOXES, 1, TWO_MOTIONS)
    near_slow = (0, 0, 0.5, 30, 0, 79, 49)  # IoU 20 / 80 with the slow box
    near_fast = (0, 0, 0.4, 170, 0, 219, 49)
    weights = weigh(ground_truth, make_detections([near_slow, near_fast]), SLOW, FAST, ALL)
    assert weights == [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]


def test_nearest_box_may_be_of_another_class():
    ground_truth = make_ground_truth(TWO_BOXES, 1, TWO_MOTIONS)
    other_class = make_detections([(0, 1, 0.5, 0, 0, 49, 49)])
    assert weigh(ground_truth, other_class, SLOW, FAST) == [[1.0, 0.0]]


def test_nearest_box_may_be_taken():
    ground_truth = make_ground_truth(TWO_BOXES, 1, TWO_MOTIONS)
    duplicate = make_detections([(0, 0, 0.9, 0, 0, 49, 49), (0, 0, 0.8, 0, 0, 49, 49)])
    assert weigh(ground_truth, duplicate, SLOW, FAST) == [[0.0, 0.0], [1.0, 0.0]]


def test_tie_weighs_the_share_out_of_range():
    # Three boxes: one slow, two fast. A detection far from all has IoU 0 with either kind.
    rows = [*TWO_BOXES, (0, 1, 400, 0, 449, 49)]
    ground_truth = make_ground_truth(rows, 1, [0.95, 0.3, 0.2])
    far = make_detections([(0, 0, 0.5, 600, 0, 649, 49)])
    ((slow, fast, everything),) = weigh(ground_truth, far, SLOW, FAST, ALL)
    assert (slow, fast) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert everything == 1.0  # no box is out of range, so nothing ties


def test_tie_with_positive_overlap():
    ground_truth = make_ground_truth([(0, 0, 0, 0, 49, 49), (0, 0, 80, 0, 129, 49)], 1, TWO_MOTIONS)
    between = make_detections([(0, 0, 0.5, 40, 0, 89, 49)])  # IoU 10 / 90 with both
    assert weigh(ground_truth, between, SLOW, FAST) == [[0.5, 0.5]]


def test_all_boxes_of_the_frame_out_of_range():
    ground_truth = make_ground_truth(TWO_BOXES[:1], 1, TWO_MOTIONS[:1])
    far = make_detections([(0, 0, 0.5, 600, 0, 649, 49)])
    # Nearer (IoU 0) to an out-of-range box than to one that does not exist.
    assert weigh(ground_truth, far, SLOW, FAST) == [[1.0, 0.0]]


def test_empty_weight_counts_placeholders_of_empty_frames():
    # Motion values 0.95, 0.3 and two empty frames as 0: slow 1 / 4, fast 3 / 4.
    ground_truth = make_ground_truth(TWO_BOXES, 3, TWO_MOTIONS)
    detections = make_detections([(1, 0, 0.5, 0, 0, 49, 49), (2, 1, 0.5, 0, 0, 9, 9)])
    assert weigh(ground_truth, detections, SLOW, MEDIUM, FAST, ALL) == [[0.25, 0.0, 0.75, 1.0]] * 2


def test_motion_ranges_include_both_ends():
    ground_truth = make_ground_truth(TWO_BOXES, 1, [0.9, 0.7])
    detections = make_detections([(0, 1, 0.5, 0, 0, 49, 49), (0, 1, 0.5, 200, 0, 249, 49)])
    weights = weigh(ground_truth, detections, SLOW, MEDIUM, FAST)
    assert weights == [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]


def test_out_of_range_boxes_stay_matchable():
    ground_truth = make_ground_truth(TWO_BOXES, 1, TWO_MOTIONS)
    detections = make_detections([(0, 0, 0.5, 200, 0, 249, 49)])
    matches = match_detections(ground_truth, detections, [SLOW])
    assert matches.boxes.tolist() == [1]
    assert matches.false_positive.tolist() == [[0.0]]


def test_motion_ranges_need_motion():
    ground_truth = make_ground_truth(TWO_BOXES, 1)
    with pytest.raises(ValueError, match="no motion IoU was given"):
        match_detections(ground_truth, make_detections([]), [SLOW])


def test_chunks_do_not_change_the_result(monkeypatch):
    generator = np.random.default_rng(3)
    corners = generator.uniform(0, 60, size=(400, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(10, 60, size=(400, 2))], axis=1)
    frames = np.sort(generator.integers(0, 30, size=400))
    classes = generator.integers(0, 2, size=400)
    ground_truth = GroundTruth(
        num_frames=33,
        class_names=["a", "b"],
        frames=frames[::4],
        boxes=boxes[::4],
        classes=classes[::4],
        ignored=np.zeros(100, dtype=bool),
        motion_iou=generator.uniform(size=100),
    )
    detections = Detections(frames, boxes, generator.uniform(size=400), classes)
    whole = match_detections(ground_truth, detections, [SLOW, FAST])
    assert (whole.boxes >= 0).sum() > 20
    for pairs in (1, 100):
        monkeypatch.setattr(matching_module, "PAIRS_PER_CHUNK", pairs)
        cut = match_detections(ground_truth, detections, [SLOW, FAST])
        np.testing.assert_array_equal(cut.boxes, whole.boxes)
        np.testing.assert_array_equal(cut.false_positive, whole.false_positive)


def test_without_boxes_or_detections():
    empty = make_ground_truth([], 2, np.empty(0))
    detections = make_detections([(1, 0, 0.5, 0, 0, 9, 9)])
    assert weigh(empty, detections, SLOW, FAST) == [[0.0, 1.0]]
    assert match_detections(empty, make_detections([])).boxes.shape == (0,)
