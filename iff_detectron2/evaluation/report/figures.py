"""The charts of the report, one function each; one or several runs in every chart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from iff_detectron2.evaluation.average_precision import RECALL_POINTS
from iff_detectron2.evaluation.error_breakdown import KINDS
from iff_detectron2.evaluation.operating_point import SCORE_POINTS
from iff_detectron2.evaluation.repairs import REPAIRS

from .charts import FAINT, Axis, Bar, BarChart, Chart, Panel, Part
from .runs import Run

RUN_COLORS = ("c1", "c2")
RANGE_COLORS = {"": "c0", "slow": "c1", "medium": "c2", "fast": "c3"}
KIND_COLORS = dict(zip((*KINDS, "missed"), ("c3", "c6", "c4", "c5", "c7", FAINT), strict=True))
MOST_CLASSES = 60  # more are not drawn one by one
SCORE_BINS = 40


def motion_bars(runs: Sequence[Run]) -> Chart | None:
    """mAP50 of all, slow, medium and fast objects; None where no run has motion categories."""
    ranges = [r for r in runs[0].result.ranges if r.range.name in RANGE_COLORS]
    if len(ranges) < 2 or all(math.isnan(r.mean_ap) for r in ranges[1:]):
        return None
    groups = []
    for number, result in enumerate(runs[0].result.ranges):
        if result.range.name in RANGE_COLORS:
            values = [100 * run.result.ranges[number].mean_ap for run in runs]
            groups.append((result.range.name or "all", _bars(runs, values, "mAP50")))
    return Chart(BarChart(groups, full=100), _run_legend(runs))


def class_bars(runs: Sequence[Run]) -> Chart:
    """AP50 of every class, the best of the first run on top, one bar a run."""
    first = np.nan_to_num(runs[0].result.ranges[0].ap, nan=-1)
    groups = [
        (
            plain(runs[0].result.class_names[class_id]),
            _bars(runs, [100 * run.result.ranges[0].ap[class_id] for run in runs], "AP50"),
        )
        for class_id in sorted(shown_classes(runs), key=lambda class_id: -first[class_id])
    ]
    return Chart(BarChart(groups, full=100), _run_legend(runs))


def f1_curves(runs: Sequence[Run]) -> Chart:
    """F1 over the score, one panel a run: all classes together with the best point, and each."""
    panels = []
    for run in runs:
        panel = Panel(
            plain(run.name),
            Axis("score", 0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
            _percent("F1 (%)"),
        )
        points = run.result.points
        for class_id in shown_classes([run]):
            name = plain(run.result.class_names[class_id])
            panel.line(name, SCORE_POINTS, 100 * points.f1[class_id + 1], FAINT)
        panel.line("all classes", SCORE_POINTS, 100 * points.f1[0], "c1")
        best = points.overall
        if not math.isnan(best.score):
            tip = (
                f"best F1 {100 * best.f1:.1f} at score {best.score:.4f}: precision "
                f"{100 * best.precision:.1f}, recall {100 * best.recall:.1f}"
            )
            panel.point(float(np.clip(best.score, 0, 1)), 100 * best.f1, tip, "c2")
        panels.append(panel)
    legend = [("c1", "all classes"), (FAINT, "each class"), ("c2", "operating point: the best F1")]
    return Chart(panels, legend)


def range_curves(runs: Sequence[Run]) -> Chart:
    """Precision over recall, mean over the classes, one panel a run and one line a range."""
    panels, legend = [], {}
    for run in runs:
        panel = Panel(plain(run.name), _percent("recall (%)"), _percent("precision (%)"))
        for number, result in enumerate(run.result.ranges):
            known = ~np.isnan(result.ap)
            if known.any():
                color = RANGE_COLORS.get(result.range.name, f"c{number % 8}")
                name = result.range.name or "all"
                precision = 100 * result.precision[known].mean(axis=0)
                panel.line(
                    f"{name}, mAP50 {_one(result.mean_ap)}", 100 * RECALL_POINTS, precision, color
                )
                legend[color] = name
        panels.append(panel)
    return Chart(panels, list(legend.items()))


def class_curves(runs: Sequence[Run]) -> Chart:
    """Precision over recall of every class, one small panel a class and one line a run."""
    panels = []
    for class_id in shown_classes(runs):
        values = " / ".join(_one(run.result.ranges[0].ap[class_id]) for run in runs)
        title = f"{plain(runs[0].result.class_names[class_id], 18)}  {values}"
        panel = Panel(title, _percent("recall (%)", 50), _percent("precision (%)", 50), 200, 170)
        for run, color in zip(runs, RUN_COLORS, strict=False):
            precision = run.result.ranges[0].precision[class_id]
            panel.line(plain(run.name), 100 * RECALL_POINTS, 100 * precision, color)
        panels.append(panel)
    return Chart(panels, _run_legend(runs), small=True)


def score_histograms(runs: Sequence[Run]) -> Chart:
    """How many detections of each score are matched to a box and how many are not."""
    heaps = []
    for run in runs:
        errors = run.errors
        scores = errors.detections.scores
        low, high = 0.0, 1.0
        if scores.size:  # logits, say, are scores too
            low, high = min(low, float(scores.min())), max(high, float(scores.max()))
        edges = np.linspace(low, high, SCORE_BINS + 1)
        wrong = ~errors.matched & ~errors.ignored
        counts = [np.histogram(scores[rows], edges)[0] for rows in (wrong, errors.matched)]
        heaps.append((run, edges, counts))
    most = max(int(count.max()) for _, _, counts in heaps for count in counts)
    powers = [10**power for power in range(len(str(max(most, 1))) + 1)]
    panels = []
    for run, edges, counts in heaps:
        steps = np.linspace(edges[0], edges[-1], 6).round(2).tolist()
        count_axis = Axis("detections", 0, powers[-1], [0, *powers], math.log1p)
        panel = Panel(plain(run.name), Axis("score", edges[0], edges[-1], steps), count_axis)
        for left, right, wrong, matched in zip(edges[:-1], edges[1:], *counts, strict=True):
            tip = (
                f"score {left:.3f} to {right:.3f}: {matched:,} matched, {wrong:,} matched to no box"
            )
            bars = [(wrong, KIND_COLORS["background"]), (matched, KIND_COLORS["correct"])]
            for count, color in bars:
                if count:
                    panel.bar(left, right, count, tip, color)
        panels.append(panel)
    legend = [(KIND_COLORS["correct"], "matched"), (KIND_COLORS["background"], "matched to no box")]
    return Chart(panels, legend)


def error_bars(runs: Sequence[Run]) -> Chart:
    """Kinds of the chosen detections and missed boxes, in percent of the boxes to find."""
    groups = []
    for kind in KIND_COLORS:
        values = []
        for run in runs:
            counts = run.errors.counts()
            values.append(100 * counts[kind] / max(counts["correct"] + counts["missed"], 1))
        groups.append((kind, _bars(runs, values, "% of the boxes to find")))
    return Chart(BarChart(groups, full=100), _run_legend(runs))


def gain_bars(runs: Sequence[Run]) -> Chart:
    """Return dAP: the points that mAP50 gains if one kind of error is repaired."""
    table = [100 * run.gains.values[:, 0] for run in runs]
    most = np.nanmax([0.1, *(gains.max() for gains in table if not np.isnan(gains).any())])
    groups = [
        (kind, _bars(runs, [gains[number] for gains in table], "points of mAP50"))
        for number, kind in enumerate(REPAIRS)
    ]
    return Chart(BarChart(groups, full=float(most)), _run_legend(runs))


def class_errors(runs: Sequence[Run]) -> Chart:
    """Return what became of the chosen detections of every class, in percent, one bar a run."""
    kinds = [kind for kind in KIND_COLORS if kind != "missed"]
    tables = [run.errors.by_class()[:, : len(kinds)] for run in runs]
    groups = []
    for class_id in shown_classes(runs):
        bars = []
        for letter, table in zip("AB", tables, strict=False):
            counts = table[class_id]
            shares = 100 * counts / max(counts.sum(), 1)
            parts = [
                Part(share, KIND_COLORS[kind], f"{kind}: {count:,}, {share:.1f} %")
                for kind, share, count in zip(kinds, shares, counts, strict=True)
                if count
            ]
            bars.append(Bar(parts, letter if len(runs) > 1 else f"{counts.sum():,}"))
        groups.append((plain(runs[0].result.class_names[class_id]), bars))
    return Chart(BarChart(groups, full=100), [(KIND_COLORS[kind], kind) for kind in kinds])


def shown_classes(runs: Sequence[Run]) -> list[int]:
    """Classes with boxes to find, in their order; the most frequent ones where there are many."""
    positives = runs[0].result.ranges[0].positives
    frequent = np.argsort(-positives, kind="stable")[:MOST_CLASSES]
    return sorted(int(class_id) for class_id in frequent if positives[class_id])


def plain(text: str, longest: int = 48) -> str:
    """Return a name on one line, and not so long that it leaves its place."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _bars(runs: Sequence[Run], values: Sequence[float], unit: str) -> list[Bar]:
    """Return a bar a run."""
    bars = []
    for run, color, value in zip(runs, RUN_COLORS, values, strict=False):
        text = "none" if math.isnan(value) else f"{value:.1f}"
        bars.append(Bar([Part(value, color, f"{plain(run.name)}: {text} {unit}")], text))
    return bars


def _run_legend(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return a legend of the runs, where there are several."""
    if len(runs) < 2:
        return []
    return [
        (color, f"{letter}: {plain(run.name)}")
        for letter, run, color in zip("AB", runs, RUN_COLORS, strict=False)
    ]


def _percent(label: str, step: int = 20) -> Axis:
    return Axis(label, 0, 100, range(0, 101, step))


def _one(ap: float) -> str:
    return "n/a" if math.isnan(ap) else f"{100 * ap:.1f}"
