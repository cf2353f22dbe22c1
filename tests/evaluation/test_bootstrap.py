"""The paired bootstrap over videos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plain_protocol import random_case, to_arrays

from iff_detectron2.evaluation import evaluate_arrays
from iff_detectron2.evaluation.bootstrap import bootstrap_metrics, interval
from iff_detectron2.structures import Detections, GroundTruth


@pytest.fixture
def case() -> tuple[GroundTruth, Detections]:
    """Two videos of two frames with one box each; the first video is found, the second is not."""
    boxes = np.array([[0, 0, 9, 9], [5, 5, 20, 20], [1, 2, 11, 12], [30, 30, 40, 40]], float)
    truth = GroundTruth(4, ["a"], np.arange(4), boxes, np.zeros(4, int), np.zeros(4, bool))
    found = Detections(np.array([0, 1]), boxes[:2], np.ones(2), np.zeros(2, int))
    return truth, found


def test_each_set_is_one_of_three_and_known_by_hand(case) -> None:
    truth, found = case
    values = bootstrap_metrics(truth, [found], ["x", "x", "y", "y"], samples=400, seed=1)[:, 0]
    # Twice the found video, one of each, twice the other: AP 100, 50, 0 with odds 1 : 2 : 1. With
    # both, half of the boxes are found before the first miss: the area below is 1/2.
    assert set(np.round(values, 6)) == {0.0, 50.0, 100.0}
    assert np.mean(values == 50) == pytest.approx(0.5, abs=0.08)
    assert np.mean(values == 100) == pytest.approx(0.25, abs=0.07)


def test_runs_are_scored_on_the_same_sets(case) -> None:
    truth, found = case
    nothing = Detections.empty()
    table = bootstrap_metrics(truth, [found, found, nothing], ["x", "x", "y", "y"], samples=50)
    np.testing.assert_array_equal(table[:, 0], table[:, 1])
    np.testing.assert_array_equal(table[:, 2], 0)


def test_one_video_gives_the_whole_set_each_time() -> None:
    truth, found = to_arrays(*random_case(3))
    whole = evaluate_arrays(truth, found).metrics()["mAP50"]
    values = bootstrap_metrics(truth, [found], ["x"] * truth.num_frames, samples=3)
    np.testing.assert_allclose(values, whole)


def test_tracks_of_the_labels_change_nothing(case) -> None:
    truth, found = case
    # A frame with two boxes, one with none: boxes are no frames.
    truth = replace(truth, frames=np.array([0, 0, 2, 3]))
    videos = ["x", "x", "y", "y"]
    places = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    more = replace(truth, num_frames=5, tracks=np.arange(4), places=np.array([*places, [1, 2]]))
    plain = bootstrap_metrics(replace(truth, num_frames=5), [found], [*videos, "y"], samples=30)
    along = bootstrap_metrics(more, [found], [*videos, "y"], samples=30)
    np.testing.assert_array_equal(plain, along)


def test_interval_is_the_middle_part() -> None:
    low, high = interval(np.array([*range(101), np.nan]), level=0.9)
    assert (low, high) == pytest.approx((5, 95))


def test_wrong_arguments_are_named(case) -> None:
    truth, found = case
    with pytest.raises(ValueError, match="names 3 frames, the ground truth has 4"):
        bootstrap_metrics(truth, [found], ["x"] * 3)
    with pytest.raises(ValueError, match="0 samples"):
        bootstrap_metrics(truth, [found], ["x"] * 4, samples=0)
