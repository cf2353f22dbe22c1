"""The charts show the numbers of the runs, and each can be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from plain_protocol import random_case, to_arrays

from iff_detectron2.evaluation import EvaluationDataset
from iff_detectron2.evaluation.error_breakdown import KINDS
from iff_detectron2.evaluation.operating_point import SCORE_POINTS
from iff_detectron2.evaluation.repairs import REPAIRS
from iff_detectron2.evaluation.report import figures, score_run
from iff_detectron2.evaluation.report.charts import Axis, Bar, BarChart, Chart, Panel, Part


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


def values(chart):
    """Values of all bars, group after group, and the names of the groups."""
    groups = chart.content.groups
    return [[part.value for bar in bars for part in bar.parts] for _, bars in groups]


def read_line(panel, number):
    """Values of a line of a panel with linear axes, from its picture alone."""
    svg = ET.fromstring(panel.svg())
    line = list(svg.iter("{http://www.w3.org/2000/svg}polyline"))[number]
    left, right, bottom, top = map(float, svg.get("data-frame").split())
    x0, x1, y0, y1 = map(float, svg.get("data-values").split())
    points = np.array([pair.split(",") for pair in line.get("points").split()], dtype=float)
    x = x0 + (points[:, 0] - left) / (right - left) * (x1 - x0)
    return line.get("data-name"), x, y0 + (bottom - points[:, 1]) / (bottom - top) * (y1 - y0)


def test_motion_bars(runs):
    names = ("mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast")
    expected = [[run.result.metrics()[name] for run in runs] for name in names]
    assert values(figures.motion_bars(runs)) == expected
    assert figures.motion_bars(make_runs(1, "devkit")) is None


def test_range_curves(runs):
    panels = figures.range_curves(runs).content
    assert [panel.title for panel in panels] == ["run 0", "run 1"]
    for run, panel in zip(runs, panels, strict=True):
        for number, result in enumerate(run.result.ranges):
            name, recall, precision = read_line(panel, number)
            known = ~np.isnan(result.ap)
            np.testing.assert_allclose(recall, np.arange(101), atol=0.01)
            mean = 100 * result.precision[known].mean(axis=0)
            np.testing.assert_allclose(precision, mean, atol=0.01)
            assert f"{100 * result.mean_ap:.1f}" in name


def test_f1_curves(runs):
    for run, panel in zip(runs, figures.f1_curves(runs).content, strict=True):
        points = run.result.points
        for number, row in ((0, 1), (1, 2), (2, 3), (3, 0)):  # all classes lie on top
            name, score, f1 = read_line(panel, number)
            assert name == ("all classes" if row == 0 else f"class{row - 1}")
            np.testing.assert_allclose(score, SCORE_POINTS, atol=1e-3)
            np.testing.assert_allclose(f1, 100 * points.f1[row], atol=0.01)
        assert f"best F1 {100 * points.overall.f1:.1f} at score" in panel.svg()


def test_class_curves_and_bars(runs):
    panels = figures.class_curves(runs).content
    assert len(panels) == 3
    for class_id, panel in enumerate(panels):
        for number, run in enumerate(runs):
            curve = 100 * run.result.ranges[0].precision[class_id]
            np.testing.assert_allclose(read_line(panel, number)[2], curve, atol=0.01)
            assert f"{100 * run.result.ranges[0].ap[class_id]:.1f}" in panel.title
    chart = figures.class_bars(runs)
    order = [int(name.removeprefix("class")) for name, _ in chart.content.groups]
    first = runs[0].result.ranges[0].ap
    assert order == sorted(order, key=lambda class_id: -first[class_id])
    expected = [[100 * run.result.ranges[0].ap[c] for run in runs] for c in order]
    np.testing.assert_allclose(values(chart), expected)


def test_score_histograms_count_every_detection(runs):
    for run, panel in zip(runs, figures.score_histograms(runs).content, strict=True):
        tips = set(re.findall(r'data-tip="(score [^"]*)"', panel.svg()))  # one a bin
        counts = [re.search(r"([\d,]+) matched, ([\d,]+) matched to no box", t) for t in tips]
        matched, wrong = (sum(int(c[i].replace(",", "")) for c in counts) for i in (1, 2))
        assert matched == run.errors.matched.sum()
        assert matched + wrong + run.errors.ignored.sum() == run.result.num_detections


def test_scores_outside_of_0_to_1_are_shown():
    run = make_runs(1)[0]
    scores = run.errors.detections.scores
    scores *= 20
    scores -= 10
    (panel,) = figures.score_histograms([run]).content
    assert (panel.x.low, panel.x.high) == (scores.min(), scores.max())


def test_error_bars_and_class_errors(runs):
    expected = []
    for kind in (*KINDS, "missed"):
        counts = [run.errors.counts() for run in runs]
        expected.append([100 * c[kind] / (c["correct"] + c["missed"]) for c in counts])
    np.testing.assert_allclose(values(figures.error_bars(runs)), expected)
    for class_id, (_, bars) in enumerate(figures.class_errors(runs).content.groups):
        for run, bar in zip(runs, bars, strict=True):
            counts = run.errors.by_class()[class_id, : len(KINDS)]
            np.testing.assert_allclose(
                [part.value for part in bar.parts], 100 * counts[counts > 0] / counts.sum()
            )


def test_gain_bars(runs):
    chart = figures.gain_bars(runs)
    assert [name for name, _ in chart.content.groups] == list(REPAIRS)
    gains = np.transpose([100 * run.gains.values[:, 0] for run in runs])
    np.testing.assert_allclose(values(chart), gains)
    assert chart.content.full == gains.max()


def test_many_classes_are_left_out_by_frequency(monkeypatch, runs):
    monkeypatch.setattr(figures, "MOST_CLASSES", 2)
    positives = runs[0].result.ranges[0].positives
    rarest = int(np.argmin(positives))
    assert figures.shown_classes(runs) == [c for c in range(3) if c != rarest]


def test_names_are_of_one_line():
    assert figures.plain("two\nlines") == "two lines"
    assert len(figures.plain("x" * 100, 20)) == 20


def test_a_panel_holds_what_is_not_a_number_and_odd_names():
    panel = Panel("<b>", Axis("x", 0, 10, (0, 10)), Axis("n", 0, 100, (0, 100), np.log1p), 200, 100)
    panel.line("a & b", np.arange(3.0), np.array([0.0, np.nan, 100.0]), "c1")
    panel.bar(2, 4, 9, '"9"', "c2")
    svg = ET.fromstring(panel.svg(alone=True))
    space = "{http://www.w3.org/2000/svg}"
    line, bar = svg.find(f"{space}polyline"), svg.find(f"{space}rect")
    # By hand: from 46 to 188 to the right, from 62 to 24 upwards; log(10) / log(101) of 38 high.
    assert line.get("points") == "46.00,62.00 74.40,24.00"
    assert line.get("data-name") == "a & b"
    assert bar.get("data-tip") == '"9"'
    box = [float(bar.get(key)) for key in ("x", "y", "width", "height")]
    high = 38 * np.log(10) / np.log(101)
    np.testing.assert_allclose(box, [74.4, 62 - high, 28.4, high], atol=0.01)
    assert "<b>" in [text.text for text in svg.iter(f"{space}text")]


def test_a_bar_without_a_value_is_empty():
    parts = [Part(float("nan"), "c1", "none"), Part(50.0, "c2", "half"), Part(-1.0, "c3", "less")]
    html = Chart(BarChart([("<i>", [Bar(parts, "text")])], full=100), [("c1", "A & B")]).html()
    assert re.findall(r"width:([\d.]+)%", html) == ["0.00", "40.00", "0.00"]
    assert "&lt;i&gt;" in html
    assert "A &amp; B" in html
