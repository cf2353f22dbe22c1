"""The table of detections: what it takes, what it refuses, and what its operations leave."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from iff_detectron2.structures import NO_TRACK, Detections


def table(frames, **more):
    """Return detections that can be told apart by their scores 0, 1, 2, ..."""
    count = len(frames)
    boxes = np.arange(4.0 * count).reshape(count, 4)
    return Detections(frames, boxes, np.arange(float(count)), np.zeros(count, int), **more)


def make_instances(count, dtype=torch.float32, **more):
    return Instances(
        (100, 200),
        pred_boxes=Boxes(torch.arange(4.0 * count).reshape(count, 4)),
        scores=torch.linspace(0, 1, count).to(dtype),
        pred_classes=torch.arange(count),
        **more,
    )


def test_columns_keep_single_precision_and_take_lists():
    single = Detections([0], np.ones((1, 4), np.float32), np.ones(1, np.float32), [3])
    assert (single.boxes.dtype, single.scores.dtype) == (np.float32, np.float32)
    lists = Detections([0, 1], [[0, 0, 1, 1], [0, 0, 2, 2]], [1, 0], np.array([2, 3], np.uint8))
    assert (lists.boxes.dtype, lists.scores.dtype) == (np.float64, np.float64)
    assert (lists.frames.dtype, lists.classes.dtype) == (np.int32, np.int32)
    assert len(Detections.empty()) == 0
    assert Detections.empty().boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones(1)}, "scores has 1 rows, frames has 2"),
        ({"track_ids": np.ones(3, int)}, "track_ids has 3 rows, frames has 2"),
        ({"frames": np.array([0.0, 1.5])}, "frames must be whole numbers"),
        ({"classes": np.array([0, 2**31])}, "classes must be whole numbers in -2147483648"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, message):
    whole = Detections([0, 0], np.ones((2, 4)), np.ones(2), [0, 1])
    with pytest.raises(ValueError, match=message):
        replace(whole, **change)


def test_rows_are_chosen_in_every_column():
    found = table([0, 0, 2], track_ids=[5, NO_TRACK, 6], sizes=np.ones((3, 2)))
    for rows in (slice(1, 3), np.array([False, True, True]), np.array([1, 2])):
        part = found[rows]
        assert part.scores.tolist() == [1, 2]
        assert part.track_ids.tolist() == [NO_TRACK, 6]
        assert part.sizes.shape == (2, 2)
    assert found[np.array([2, 0])].frames.tolist() == [2, 0]
    assert found.tracks().tolist() == [5, NO_TRACK, 6]
    assert table([0, 1]).tracks().tolist() == [NO_TRACK, NO_TRACK]


def test_parts_are_joined():
    joined = Detections.concatenate([table([0, 1]), Detections.empty(), table([4])])
    assert joined.frames.tolist() == [0, 1, 4]
    assert joined.scores.tolist() == [0, 1, 0]
    assert len(Detections.concatenate([])) == 0
    with pytest.raises(ValueError, match="only some parts have track_ids"):
        Detections.concatenate([table([0]), table([1], track_ids=[1])])


def test_rows_of_frames():
    found = table([2, 0, 2, 0])
    by_frame = found.sorted_by_frame()
    assert by_frame.scores.tolist() == [1, 3, 0, 2]
    assert by_frame.sorted_by_frame() is by_frame
    assert by_frame.row_starts(4).tolist() == [0, 2, 2, 4, 4]
    assert by_frame.frames_without(4).tolist() == [1, 3]


def test_what_a_detector_found_is_taken_as_it_is():
    found = Detections.from_instances([(3, make_instances(2)), (5, make_instances(0)),
                                       (7, make_instances(1, torch.bfloat16))])  # fmt: skip
    assert found.frames.tolist() == [3, 3, 7]
    assert found.boxes.dtype == np.float32
    assert found.boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert found.scores.tolist() == [0, 1, 0]
    assert found.classes.tolist() == [0, 1, 0]
    assert found.track_ids is None
    tracked = make_instances(2, track_ids=torch.tensor([4, NO_TRACK]))
    assert Detections.from_instances([(0, tracked)]).track_ids.tolist() == [4, NO_TRACK]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("scores", np.nan, "score nan is not a finite number"),
        ("boxes", [0, 0, np.inf, 9], "a coordinate that is not a finite number"),
        ("boxes", [9, 0, 9, 9], "a width or height of zero or less"),
        ("classes", 2, r"category 2 is not one of the 2 known \(0-based\)"),
    ],
)
def test_the_first_unusable_detection_is_named(column, value, message):
    found = Detections([0, 1], [[0, 0, 9, 9]] * 2, np.ones(2), [0, 1])
    assert found.find_bad(2) is None
    getattr(found, column)[1] = value
    with pytest.raises(ValueError, match=f"Detection 1 in frame row 1: .*{message}"):
        found.check(2, 2)
    with pytest.raises(ValueError, match=r"frame row 1 is outside 0\.\.0"):
        found.check(1, 2)
