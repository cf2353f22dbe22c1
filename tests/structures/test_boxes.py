from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.structures.boxes import inclusive_iou, motion_iou
from iff_detectron2.structures.boxes import plain_iou as iou_without_border


def plain_iou(a, b):
    """Inclusive IoU by counting pixels of integer boxes."""
    pixels = [
        {(x, y) for x in range(box[0], box[2] + 1) for y in range(box[1], box[3] + 1)}
        for box in (a, b)
    ]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def plain_motion_iou(rows, window=10):
    """Motion IoU from (video, frame, track, box) rows, one box after the other."""
    result = []
    for video, frame, track, box in rows:
        values = [
            plain_iou(box, other_box)
            for other_video, other_frame, other_track, other_box in rows
            if (other_video, other_track) == (video, track)
            and other_frame != frame
            and abs(other_frame - frame) <= window
        ]
        result.append(sum(values) / len(values) if values else 1.0)
    return result


def test_inclusive_iou_counts_pixels():
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 12, size=(2, 200, 2))
    sizes = generator.integers(0, 8, size=(2, 200, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=2)
    expected = [plain_iou(a, b) for a, b in zip(*boxes.tolist(), strict=True)]
    np.testing.assert_allclose(inclusive_iou(*boxes), expected, rtol=0, atol=1e-15)


def test_boxes_apart_in_both_directions_do_not_overlap():
    assert inclusive_iou(np.array([[0, 0, 1, 1]]), np.array([[9, 9, 12, 12]])).item() == 0.0


def test_hand_computed_track_with_a_gap():
    # 10x10 boxes; frames 0, 5 and 15. Frame 5 sees both (gaps of 5 and 10), the others only it.
    boxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [5, 0, 14, 9]])
    values = motion_iou(boxes, [0, 0, 0], [0, 5, 15], [7, 7, 7])
    third = 50 / 150
    np.testing.assert_allclose(values, [third, (third + 1) / 2, 1.0], atol=1e-15)


def test_window_ends_at_ten_frames():
    boxes = np.array([[0, 0, 9, 9], [50, 0, 59, 9]])
    np.testing.assert_array_equal(motion_iou(boxes, [0, 0], [0, 10], [1, 1]), [0.0, 0.0])
    np.testing.assert_array_equal(motion_iou(boxes, [0, 0], [0, 11], [1, 1]), [1.0, 1.0])


def test_singleton_track_is_one():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [40, 0, 49, 9]])
    # Same track id in another video, and another track in the same video: both are alone.
    np.testing.assert_array_equal(motion_iou(boxes, [0, 1, 1], [0, 0, 1], [3, 3, 4]), [1, 1, 1])


def test_equals_plain_loops_in_any_order():
    generator = np.random.default_rng(1)
    rows = []
    for video in range(3):
        for track in range(4):
            for frame in range(40):
                if generator.random() < 0.6:
                    x, y = generator.integers(0, 10, size=2).tolist()
                    rows.append((video, frame, track, (x, y, x + 8, y + 6)))
    rows = [rows[i] for i in generator.permutation(len(rows))]
    video, frame, track, boxes = (np.array(column) for column in zip(*rows, strict=True))
    np.testing.assert_allclose(
        motion_iou(boxes, video, frame, track), plain_motion_iou(rows), rtol=0, atol=1e-14
    )


def test_static_long_track_stays_at_most_one():
    boxes = np.tile([[3.3, 1.7, 77.7, 41.9]], (50, 1))
    values = motion_iou(boxes, np.zeros(50), np.arange(50), np.zeros(50))
    assert (values <= 1.0).all()
    np.testing.assert_allclose(values, 1.0, atol=1e-12)


def test_no_boxes():
    assert motion_iou(np.empty((0, 4)), [], [], []).shape == (0,)


def test_track_twice_in_a_frame_is_an_error():
    boxes = np.array([[0, 0, 9, 9], [5, 5, 9, 9]])
    with pytest.raises(ValueError, match="Track 4 has two boxes in frame 2 of video number 0"):
        motion_iou(boxes, [0, 0], [2, 2], [4, 4])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1, 2, 1 and 1 rows"):
        motion_iou(np.zeros((1, 4)), [0, 0], [0], [0])


def test_plain_iou_counts_no_border():
    """Boxes 10 wide and 10 high, moved by 5: 50 of 150 in common; inclusive 66 of 176."""
    one, two = np.array([[0, 0, 10, 10]]), np.array([[5, 0, 15, 10]])
    assert iou_without_border(one, two) == pytest.approx(50 / 150)
    assert inclusive_iou(one, two) == pytest.approx(66 / 176)
    apart = np.array([[20, 20, 30, 30]])
    assert iou_without_border(one, apart) == 0
