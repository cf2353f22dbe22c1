"""The score of the best F1: by hand, and by trying every score."""

import json
import math

import numpy as np
import pytest
from plain_protocol import random_case, to_arrays
from vid_cases import make_dicts, noisy, nothing, run

from iff_detectron2.evaluation import VIDEvaluator, evaluate_detections
from iff_detectron2.evaluation.matching import match_detections
from iff_detectron2.evaluation.operating_point import (
    SCORE_POINTS,
    find_operating_points,
    load_operating_point,
)


def find(scores, hits, positives, ignored=None):
    """Find the points of one class."""
    scores, hits = np.array(scores), np.array(hits, dtype=bool)
    ignored = np.zeros(len(scores), bool) if ignored is None else np.array(ignored, dtype=bool)
    rows = np.argsort(-scores, kind="stable")
    return find_operating_points(scores, [rows], hits, ignored, np.array([positives]))


def test_by_hand():
    """F1 is 2/4 at 0.9, 2/5 at 0.8, 4/6 at 0.7, then falls: 4/7, 4/8."""
    found = find([0.5, 0.9, 0.7, 0.8, 0.6], [0, 1, 1, 0, 0], 3)
    best = found.overall
    assert (best.score, best.f1, best.precision, best.recall) == (0.7, 4 / 6, 2 / 3, 2 / 3)
    assert found.classes == (best,)
    expected = {0: 4 / 8, 55: 4 / 7, 65: 4 / 6, 70: 4 / 6, 75: 2 / 5, 90: 2 / 4, 91: 0, 100: 0}
    for index, f1 in expected.items():
        assert SCORE_POINTS[index] == pytest.approx(index / 100)
        assert found.f1[0, index] == pytest.approx(f1)


def test_equal_scores_are_kept_together_and_ignored_ones_do_not_count():
    best = find([0.5, 0.5, 0.5], [1, 0, 1], 2).overall
    assert (best.score, best.precision, best.recall) == (0.5, 2 / 3, 1)
    best = find([0.9, 0.5, 0.5], [0, 0, 1], 1, ignored=[1, 0, 0]).overall
    assert (best.score, best.precision) == (0.5, 0.5)
    # Of equal F1, 2 / 3 with one hit of one and with two of four, the higher score.
    best = find([0.9, 0.5, 0.4, 0.3], [1, 0, 0, 1], 2).overall
    assert (best.score, best.f1) == (0.9, pytest.approx(2 / 3))


def test_nothing_to_find_and_nothing_found():
    assert math.isnan(find([0.5], [0], 0).overall.score)
    assert np.isnan(find([0.5], [0], 0).f1).all()
    assert math.isnan(find([0.5], [0], 3).overall.score)
    assert math.isnan(find([], [], 3).overall.score)
    assert (find([], [], 3).f1 == 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_best_of_all_scores(seed):
    ground_truth, detections = to_arrays(*random_case(seed))
    result = evaluate_detections(ground_truth, detections, "devkit")

    def f1(score, class_id):
        kept = detections[detections.scores >= score].sorted_by_frame()
        boxes = match_detections(ground_truth.sorted_by_frame(), kept).boxes
        truth = ground_truth.sorted_by_frame()
        of_class = np.isin(kept.classes, class_id)
        hits = of_class & (boxes >= 0) & ~np.append(truth.ignored, False)[boxes]
        wrong = of_class & (boxes < 0)
        positives = (np.isin(truth.classes, class_id) & ~truth.ignored).sum()
        return 2 * hits.sum() / max(hits.sum() + wrong.sum() + positives, 1)

    for point, class_id in zip(
        (result.points.overall, *result.points.classes), ([0, 1], [0], [1]), strict=True
    ):
        values = {score: f1(score, class_id) for score in set(detections.scores.tolist())}
        best = max(values.values())
        assert point.f1 == pytest.approx(best)
        assert point.score == max(s for s, value in values.items() if value >= best - 1e-12)


def test_it_is_printed_and_saved_beside_the_metrics(register, tmp_path):
    dicts = make_dicts()
    run(VIDEvaluator(register(dicts), output_dir=tmp_path), dicts, noisy)
    saved = json.loads((tmp_path / "operating_point.json").read_text())
    assert list(saved["classes"]) == ["cat", "dog"]
    point = load_operating_point(tmp_path / "operating_point.json")
    assert saved["overall"]["score"] == point.score
    assert f"{point.score:.4f}" in (tmp_path / "results.txt").read_text()
    run(VIDEvaluator(register(dicts), output_dir=tmp_path), dicts, nothing)
    assert load_operating_point(tmp_path / "operating_point.json") is None
    (tmp_path / "operating_point.json").write_text("[]")
    with pytest.raises(ValueError, match=r"operating_point\.json is not a file of operating"):
        load_operating_point(tmp_path / "operating_point.json")
