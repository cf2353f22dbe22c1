"""The plots of the report, one function each; one or several runs in every plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from iff_detectron2.evaluation.average_precision import RECALL_POINTS
from iff_detectron2.evaluation.error_breakdown import KINDS
from iff_detectron2.evaluation.operating_point import SCORE_POINTS
from iff_detectron2.visualization.plots import COLORS, MOTION_METRICS, metric_bars_figure, tidy

from .runs import Run

RUN_COLORS = COLORS[1:]
RANGE_COLORS = dict(zip(("", "slow", "medium", "fast"), COLORS, strict=False))
KIND_COLORS = dict(
    zip(
        (*KINDS, "missed"),
        (COLORS[3], COLORS[6], COLORS[4], COLORS[5], COLORS[7], "#b5b5b5"),
        strict=True,
    )
)
MOST_CLASSES = 60  # more are not drawn one by one
MOST_CONFUSED = 40  # more make no readable matrix
SCORE_BINS = 40


def motion_bars(runs: Sequence[Run]) -> Figure | None:
    """mAP50 of all, slow, medium and fast objects; None where no run has motion categories."""
    metrics = {plain(run.name): run.result.metrics() for run in runs}
    if any(name not in values for values in metrics.values() for name in MOTION_METRICS):
        return None
    if all(math.isnan(values[name]) for values in metrics.values() for name in MOTION_METRICS[1:]):
        return None
    return metric_bars_figure(metrics, "")


def range_curves(runs: Sequence[Run]) -> Figure:
    """Precision over recall, mean over the classes, one panel a run and one line a range."""
    figure, panels = _panels(len(runs), columns=len(runs), size=(4.6, 3.7))
    for run, axes in zip(runs, panels, strict=True):
        for number, result in enumerate(run.result.ranges):
            known = ~np.isnan(result.ap)
            if known.any():
                color = RANGE_COLORS.get(result.range.name, COLORS[number % len(COLORS)])
                label = f"{result.range.name or 'all'}  {100 * result.mean_ap:.1f}"
                precision = result.precision[known].mean(axis=0)
                axes.plot(100 * RECALL_POINTS, 100 * precision, color=color, label=label)
        _percent_axes(axes, plain(run.name))
        ticks = range(0, 101, 20)
        axes.set(xlabel="recall (%)", ylabel="precision (%)", xticks=ticks, yticks=ticks)
        if axes.lines:
            axes.legend(title="mAP50", fontsize="small", loc="best")
    return figure


def class_curves(runs: Sequence[Run]) -> Figure:
    """Precision over recall of every class, one small panel a class and one line a run."""
    classes = shown_classes(runs)
    columns = min(max(len(classes), 1), 5)
    figure, panels = _panels(len(classes), columns, size=(2.1, 1.9))
    for class_id, axes in zip(classes, panels, strict=True):
        for run, color in zip(runs, RUN_COLORS, strict=False):
            result = run.result.ranges[0]
            axes.plot(
                100 * RECALL_POINTS, 100 * result.precision[class_id], color=color, linewidth=1.4
            )
        values = " / ".join(_value(run.result.ranges[0].ap[class_id]) for run in runs)
        _percent_axes(axes, f"{plain(runs[0].result.class_names[class_id], 18)}  {values}")
        axes.title.set_fontsize(8)
        axes.tick_params(labelsize=7)
    _label_runs(figure, runs)
    figure.supxlabel("recall (%)", fontsize=9)
    figure.supylabel("precision (%)", fontsize=9)
    return figure


def class_bars(runs: Sequence[Run]) -> Figure:
    """AP50 of every class, the best of the first run on top, one bar a run."""
    classes = shown_classes(runs)
    first = np.nan_to_num(runs[0].result.ranges[0].ap, nan=-1)
    classes.sort(key=lambda class_id: first[class_id])  # bars are counted from below
    figure = _figure((7.4, 0.7 + (0.16 + 0.13 * len(runs)) * max(len(classes), 3)))
    axes = figure.add_subplot()
    height = 0.78 / len(runs)
    for number, (run, color) in enumerate(zip(runs, RUN_COLORS, strict=False)):
        values = 100 * run.result.ranges[0].ap[classes]
        places = np.arange(len(classes)) + ((len(runs) - 1) / 2 - number) * height
        axes.barh(places, values, height * 0.92, color=color)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:.1f}",
                (value, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    names = runs[0].result.class_names
    axes.set_yticks(np.arange(len(classes)), [plain(names[c], 28) for c in classes], fontsize=8)
    axes.set(xlabel="AP50 (%)", xlim=(0, 107), xticks=range(0, 101, 20))
    axes.set_ylim(-0.6, max(len(classes), 1) - 0.4)
    tidy(axes, grid_axis="x")
    _label_runs(figure, runs)
    return figure


def f1_curves(runs: Sequence[Run]) -> Figure:
    """F1 over the score, one panel a run: all classes together with the best point, and each."""
    figure, panels = _panels(
        len(runs), columns=len(runs), size=(_panel_width(runs), 3.2), sharey=True
    )
    for run, axes in zip(runs, panels, strict=True):
        points = run.result.points
        for class_id in shown_classes([run]):
            axes.plot(SCORE_POINTS, 100 * points.f1[class_id + 1], color="#b5b5b5", linewidth=0.8)
        axes.plot(SCORE_POINTS, 100 * points.f1[0], color=RUN_COLORS[0], label="all classes")
        best = points.overall
        if not math.isnan(best.score):
            label = f"best: {100 * best.f1:.1f} at score {best.score:.2f}"
            axes.plot(best.score, 100 * best.f1, "o", color=COLORS[3], label=label)
        axes.set(xlabel="score", xlim=(0, 1), ylim=(0, 103), title=plain(run.name))
        axes.legend(fontsize="small", loc="lower left")
        tidy(axes)
    panels[0].set_ylabel("F1 (%)")
    return figure


def confusion(runs: Sequence[Run]) -> Figure | None:
    """Return what labelled boxes are detected as, one panel a run; None for a single class."""
    classes = shown_classes(runs)
    if not 2 <= len(classes) <= MOST_CONFUSED:
        return None
    names = [plain(runs[0].result.class_names[c], 20) for c in classes]
    side = 1.6 + 0.32 * len(classes)
    figure, panels = _panels(len(runs), columns=len(runs), size=(side + 1, side))
    for run, axes in zip(runs, panels, strict=True):
        rows = [*classes, len(run.result.class_names)]
        counts = run.confusion[np.ix_(rows, rows)]
        totals = run.confusion[rows].sum(axis=1, keepdims=True)
        shares = 100 * counts[:-1] / np.maximum(totals[:-1], 1)
        axes.imshow(np.vstack([shares, np.full(len(rows), np.nan)]), cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(len(rows), len(rows)):
            last = row == len(rows) - 1
            text = f"{counts[row, column]:,}" if last else f"{shares[row, column]:.0f}"
            if counts[row, column]:
                color = "white" if not last and shares[row, column] > 60 else "#222222"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
        ticks = np.arange(len(rows))
        axes.set_xticks(ticks, [*names, "missed"], rotation=60, ha="right", fontsize=8)
        axes.set_yticks(ticks, [*names, "no label"], fontsize=8)
        axes.set(xlabel="detected as", ylabel="label", title=plain(run.name))
    return figure


def score_histograms(runs: Sequence[Run]) -> Figure:
    """How many detections of each score are matched to a box and how many are not."""
    figure, panels = _panels(
        len(runs), columns=len(runs), size=(_panel_width(runs), 3.2), sharey=True
    )
    for run, axes in zip(runs, panels, strict=True):
        errors = run.errors
        scores = errors.detections.scores
        low, high = 0.0, 1.0
        if scores.size:  # logits, say, are scores too
            low, high = min(low, float(scores.min())), max(high, float(scores.max()))
        edges = np.linspace(low, high, SCORE_BINS + 1)
        wrong = ~errors.matched & ~errors.ignored
        for rows, color, label in (
            (wrong, KIND_COLORS["background"], "matched to no box"),
            (errors.matched, KIND_COLORS["correct"], "matched"),
        ):
            counts = np.histogram(scores[rows], edges)[0]
            axes.stairs(counts, edges, fill=True, color=color, alpha=0.45)
            axes.stairs(counts, edges, color=color, label=f"{label}: {int(rows.sum()):,}")
        axes.set(xlabel="score", title=plain(run.name), xlim=(low, high))
        axes.set_yscale("symlog", linthresh=1)
        axes.legend(fontsize="small", loc="upper right")
        tidy(axes)
    # Room for the legends above the bars; the axis is logarithmic.
    panels[0].set_ylim(0, 20 * max(axes.dataLim.y1 for axes in panels) + 1)
    panels[0].set_ylabel("detections")
    return figure


def error_bars(runs: Sequence[Run]) -> Figure:
    """Kinds of the chosen detections and missed boxes, in percent of the boxes to find."""
    figure = _figure((7.4, 3.4))
    axes = figure.add_subplot()
    kinds = list(KIND_COLORS)
    width = 0.8 / len(runs)
    for number, (run, color) in enumerate(zip(runs, RUN_COLORS, strict=False)):
        counts = run.errors.counts()
        total = max(counts["correct"] + counts["missed"], 1)
        values = [100 * counts[kind] / total for kind in kinds]
        places = np.arange(len(kinds)) + (number - (len(runs) - 1) / 2) * width
        axes.bar(places, values, width * 0.92, color=color)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:.1f}",
                (place, value),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.set_xticks(np.arange(len(kinds)), kinds)
    axes.set(ylabel="% of the boxes to find", ylim=(0, 107), yticks=range(0, 101, 20))
    tidy(axes, grid_axis="y")
    _label_runs(figure, runs)
    return figure


def class_errors(runs: Sequence[Run]) -> Figure:
    """Return what became of the chosen detections of every class, in percent, one panel a run."""
    classes = shown_classes(runs)[::-1]  # bars are counted from below
    kinds = [kind for kind in KIND_COLORS if kind != "missed"]
    height = 1.1 + 0.2 * max(len(classes), 3)
    figure, panels = _panels(
        len(runs), columns=len(runs), size=(_panel_width(runs), height), sharey=True
    )
    for run, axes in zip(runs, panels, strict=True):
        table = run.errors.by_class()[classes][:, : len(kinds)]
        shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        left = np.zeros(len(classes))
        for kind, share in zip(kinds, shares.T, strict=True):
            axes.barh(
                np.arange(len(classes)), share, 0.75, left=left, color=KIND_COLORS[kind], label=kind
            )
            left += share
        axes.set(title=plain(run.name), xlabel="% of the detections looked at", xlim=(0, 100))
        tidy(axes, grid_axis="x")
    names = runs[0].result.class_names
    panels[0].set_yticks(
        np.arange(len(classes)), [plain(names[c], 28) for c in classes], fontsize=8
    )
    panels[0].set_ylim(-0.6, max(len(classes), 1) - 0.4)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        ncols=len(kinds),
        fontsize="small",
        loc="outside lower center",
    )
    return figure


def shown_classes(runs: Sequence[Run]) -> list[int]:
    """Classes with boxes to find, in their order; the most frequent ones where there are many."""
    positives = runs[0].result.ranges[0].positives
    frequent = np.argsort(-positives, kind="stable")[:MOST_CLASSES]
    return sorted(int(class_id) for class_id in frequent if positives[class_id])


def plain(text: str, longest: int = 48) -> str:
    """Return a name as text of a plot: no mathematics, and not so long that it leaves the plot."""
    text = " ".join(text.split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return " " * text.startswith("_") + text.replace("$", r"\$")


def _value(ap: float) -> str:
    return "n/a" if math.isnan(ap) else f"{100 * ap:.1f}"


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(
    count: int, columns: int, size: tuple[float, float], sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of panels of a size in inches."""
    rows = max(1, -(-count // columns))
    figure = _figure((size[0] * columns + 0.3, size[1] * rows + 0.3))
    panels: list[Axes] = []
    for number in range(count):
        share = panels[0] if sharey and panels else None
        panels.append(figure.add_subplot(rows, columns, number + 1, sharey=share))
        if share is not None:
            panels[-1].tick_params(labelleft=False)
    return figure, panels


def _panel_width(runs: Sequence[Run]) -> float:
    """Inches that fill the page, for panels beside each other, one a run."""
    return 7.1 if len(runs) == 1 else 5.0


def _percent_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    ticks = (0, 50, 100)
    axes.set(xlim=(0, 100), ylim=(0, 103), xticks=ticks, yticks=ticks)
    tidy(axes)


def _label_runs(figure: Figure, runs: Sequence[Run]) -> None:
    """Return a legend of the runs, where there are several."""
    if len(runs) < 2:
        return
    from matplotlib.patches import Patch

    handles = [
        Patch(color=color, label=plain(run.name))
        for run, color in zip(runs, RUN_COLORS, strict=False)
    ]
    figure.legend(handles=handles, fontsize="small", ncols=2, loc="outside upper center")
