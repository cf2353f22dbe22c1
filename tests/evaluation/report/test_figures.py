"""The plots show the numbers of the runs."""

from __future__ import annotations

import numpy as np
import pytest
from plain_protocol import random_case, to_arrays

from iff_detectron2.evaluation import EvaluationDataset
from iff_detectron2.evaluation.error_breakdown import KINDS
from iff_detectron2.evaluation.report import figures, score_run


def make_runs(count=2, protocol="fgfa", num_classes=3, **changes):
    runs = []
    for seed in range(count):
        case = random_case(5, num_frames=12, num_classes=num_classes, num_boxes=40, num_dets=160)
        ground_truth, detections = to_arrays(*case)
        scores = np.random.default_rng(seed).permutation(detections.scores)
        detections = type(detections)(
            detections.frames, detections.boxes, scores, detections.classes
        )
        dataset = EvaluationDataset("set", ground_truth, [{}] * 12, list(range(num_classes)))
        runs.append(score_run(f"run {seed}", dataset, detections, protocol, **changes))
    return runs


@pytest.fixture(scope="module")
def runs():
    return make_runs()


def test_motion_bars(runs):
    heights = [bar.get_height() for bar in figures.motion_bars(runs).axes[0].patches]
    names = ("mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast")
    assert heights == [run.result.metrics()[name] for run in runs for name in names]
    assert figures.motion_bars(make_runs(1, "devkit")) is None


def test_range_curves(runs):
    axes = figures.range_curves(runs).axes
    assert [a.get_title() for a in axes] == ["run 0", "run 1"]
    for run, panel in zip(runs, axes, strict=True):
        assert len(panel.lines) == 4
        for line, result in zip(panel.lines, run.result.ranges, strict=True):
            known = ~np.isnan(result.ap)
            np.testing.assert_allclose(
                line.get_ydata(), 100 * result.precision[known].mean(axis=0), atol=1e-12
            )
            assert f"{100 * result.mean_ap:.1f}" in line.get_label()


def test_class_curves_and_bars(runs):
    panels = figures.class_curves(runs).axes
    assert len(panels) == 3
    for class_id, panel in enumerate(panels):
        for run, line in zip(runs, panel.lines, strict=True):
            curve = run.result.ranges[0].precision[class_id]
            np.testing.assert_array_equal(line.get_ydata(), 100 * curve)
            assert f"{100 * run.result.ranges[0].ap[class_id]:.1f}" in panel.get_title()
    axes = figures.class_bars(runs).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    order = [int(name.removeprefix("class")) for name in names]
    first = runs[0].result.ranges[0].ap
    assert order == sorted(order, key=lambda class_id: first[class_id])
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(
        widths, [100 * run.result.ranges[0].ap[c] for run in runs for c in order]
    )


def test_score_histograms_count_every_detection(runs):
    for run, panel in zip(runs, figures.score_histograms(runs).axes, strict=True):
        filled = [patch for patch in panel.patches if patch.get_fill()]
        counts = [patch.get_data().values.sum() for patch in filled]
        ignored = int(run.errors.ignored.sum())
        assert sum(counts) + ignored == run.result.num_detections
        assert counts[1] == run.errors.matched.sum()


def test_scores_outside_of_0_to_1_are_shown():
    run = make_runs(1)[0]
    scores = run.errors.detections.scores
    scores *= 20
    scores -= 10
    panel = figures.score_histograms([run]).axes[0]
    assert panel.get_xlim() == (scores.min(), scores.max())


def test_error_bars_and_class_errors(runs):
    bars = figures.error_bars(runs).axes[0].patches
    heights = [bar.get_height() for bar in bars]
    expected = []
    for run in runs:
        counts = run.errors.counts()
        total = counts["correct"] + counts["missed"]
        expected += [100 * counts[kind] / total for kind in (*KINDS, "missed")]
    np.testing.assert_allclose(heights, expected)
    for run, panel in zip(runs, figures.class_errors(runs).axes, strict=True):
        widths = np.array([bar.get_width() for bar in panel.patches]).reshape(len(KINDS), 3)
        table = run.errors.by_class()[::-1, : len(KINDS)].T
        np.testing.assert_allclose(widths, 100 * table / table.sum(axis=0), atol=1e-9)


def test_many_classes_are_left_out_by_frequency(monkeypatch, runs):
    monkeypatch.setattr(figures, "MOST_CLASSES", 2)
    positives = runs[0].result.ranges[0].positives
    rarest = int(np.argmin(positives))
    assert figures.shown_classes(runs) == [c for c in range(3) if c != rarest]


def test_names_are_plain_text():
    assert figures.plain("$x^2$") == r"\$x^2\$"
    assert figures.plain("_hidden") == " _hidden"  # matplotlib leaves _names out of legends
    assert figures.plain("two\nlines") == "two lines"
    assert len(figures.plain("x" * 100, 20)) == 20
