from __future__ import annotations

import math

import numpy as np
import pytest

from iff_detectron2.evaluation.average_precision import (
    average_precision,
    mean_over_classes,
    precision_recall,
)


def test_hand_computed_envelope():
    # hit, miss, hit, hit of 4: precision 1, 1/2, 2/3, 3/4; the envelope lifts 2/3 to 3/4.
    ap = average_precision(np.array([1, 0, 1, 1]), np.array([0, 1, 0, 0]), 4)
    assert ap == pytest.approx(0.25 * (1 + 0.75 + 0.75), abs=1e-15)


def test_fractional_false_positive():
    # Half a false alarm before the hit: precision 1 / 1.5.
    ap = average_precision(np.array([0, 1]), np.array([0.5, 0]), 1)
    assert ap == pytest.approx(2 / 3, abs=1e-15)


def test_uncounted_detections_change_nothing():
    counted = average_precision(np.array([1, 0, 1]), np.array([0, 1, 0]), 3)
    hits = np.array([0, 1, 0, 0, 0, 1, 0])
    weights = np.array([0, 0, 0, 1, 0, 0, 0])
    assert average_precision(hits, weights, 3) == counted


def test_precision_is_zero_before_anything_counts():
    precision, recall = precision_recall(np.array([0, 1]), np.array([0, 0]), 2)
    np.testing.assert_array_equal(precision, [0, 1])
    np.testing.assert_array_equal(recall, [0, 0.5])


def test_no_detections_and_no_positives():
    nothing = np.empty(0)
    assert average_precision(nothing, nothing, 3) == 0.0
    assert math.isnan(average_precision(nothing, nothing, 0))
    assert math.isnan(average_precision(np.array([0]), np.array([1]), 0))
    with pytest.raises(ValueError, match="num_positives is 0"):
        precision_recall(nothing, nothing, 0)


def test_mean_leaves_out_classes_without_positives():
    assert mean_over_classes(np.array([0.5, np.nan, 1.0])) == 0.75
    assert math.isnan(mean_over_classes(np.array([np.nan])))
