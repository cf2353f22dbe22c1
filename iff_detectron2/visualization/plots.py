"""Training curves and metric bars as PNG files."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from iff_detectron2.utils.files import open_atomically

MOTION_METRICS = ("mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast")
COLORS = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read Detectron2's `metrics.json`: one JSON object a line, each with its iteration.

    A line that an interrupted write cut off is left out with a warning; the next one may follow in
    it. Where the iteration
    steps back, training was resumed from an older checkpoint: what came later in the
    abandoned part is left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is malformed, naming it, or no line is left.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no metrics file {path}; training writes metrics.json into its OUTPUT_DIR"
        )
    records: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            torn = line.startswith('{"') and (not line.endswith("\n") or line.count('{"') > 1)
            if torn:
                warnings.warn(
                    f"{path}, line {number}: left out, its writing was interrupted", stacklevel=2
                )
                continue
            raise ValueError(f"{path}, line {number} is not valid JSON: {error}") from error
        iteration = record.get("iteration") if isinstance(record, dict) else None
        if isinstance(iteration, bool) or not isinstance(iteration, int):
            raise ValueError(
                f'{path}, line {number} must be a JSON object with an integer "iteration", '
                f"got {line.strip()[:80]}"
            )
        while records and records[-1]["iteration"] > iteration:
            records.pop()
        records.append(record)
    if not records:
        raise ValueError(f"{path} holds no metrics; was training stopped before its first line?")
    return records


def metric_series(records: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and values of one metric, where it was written; both float64 [N]."""
    points = {}
    for record in records:
        if key not in record:
            continue
        value = record[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(
                f"metric {key!r} at iteration {record['iteration']} is not a number: {value!r}"
            )
        points[record["iteration"]] = float(value)
    return np.array(list(points), dtype=np.float64), np.array(list(points.values()), np.float64)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average over `window` values, fewer at the ends; skips NaN and infinity."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the smoothing window must be a positive odd number, got {window}")
    known = np.isfinite(values)
    padded = np.pad(np.where(known, values, 0.0), window // 2)
    counts = np.convolve(np.pad(known.astype(np.float64), window // 2), np.ones(window), "valid")
    sums = np.convolve(padded, np.ones(window), "valid")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def training_figure(records: list[dict[str, Any]], title: str = "Training") -> Figure:
    """Return the figure of `plot_training_curves`, not yet saved."""
    names = sorted({key for record in records for key in record})
    losses = [name for name in names if name == "total_loss" or name.startswith("loss")]
    if not losses:
        raise ValueError("the metrics hold no loss; expected total_loss, loss_cls and the like")
    # The total first, so that it keeps its colour whatever the other losses are.
    losses.sort(key=lambda name: name != "total_loss")
    scores = [f"bbox/{name}" for name in MOTION_METRICS if f"bbox/{name}" in names]
    has_lr = "lr" in names

    side = int(has_lr) + int(bool(scores))
    figure = Figure(figsize=(11, 4.6) if side else (7, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    grid = figure.add_gridspec(
        max(side, 1), 2 if side else 1, width_ratios=[2, 1][: 1 + bool(side)]
    )
    loss_axes = figure.add_subplot(grid[:, 0])
    _plot_losses(loss_axes, records, losses)
    panels = iter(range(side))
    if scores:
        axes = figure.add_subplot(grid[next(panels), 1], sharex=loss_axes)
        for i, name in enumerate(scores):
            iterations, values = metric_series(records, name)
            label = name.removeprefix("bbox/")
            axes.plot(iterations, values, "o-", markersize=4, color=COLORS[i], label=label)
        axes.set(xlabel="iteration", ylabel="mAP50 (%)", title="Evaluation", ylim=(0, 100))
        axes.legend(fontsize="small")
        tidy(axes)
    if has_lr:
        axes = figure.add_subplot(grid[next(panels), 1], sharex=loss_axes)
        axes.plot(*metric_series(records, "lr"), color=COLORS[1])
        axes.set(xlabel="iteration", ylabel="learning rate", title="Schedule", ylim=(0, None))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        tidy(axes)
    return figure


def plot_training_curves(
    metrics_json: str | os.PathLike[str], png: str | os.PathLike[str], title: str = "Training"
) -> None:
    """Draw losses (smoothed, over the raw values), learning rate and evaluations of a training.

    Args:
        metrics_json: the `metrics.json` of a Detectron2 training.
        png: the file to write.

    Raises:
        FileNotFoundError: if there is no metrics file.
        ValueError: if a line of it is malformed, or it holds no loss.
    """
    save_figure(training_figure(read_metrics(metrics_json), title), Path(png))


def metric_bars_figure(
    runs: Mapping[str, Mapping[str, float]], title: str = "mAP50 by speed of the objects"
) -> Figure:
    """Return the figure of `plot_metric_bars`, not yet saved."""
    if not runs:
        raise ValueError("there is no run to draw; give at least one name with its metrics")
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(len(MOTION_METRICS))
    width = 0.8 / len(runs)
    for i, (run, metrics) in enumerate(runs.items()):
        missing = [name for name in MOTION_METRICS if name not in metrics]
        if missing:
            raise ValueError(
                f"run {run!r} has no {missing[0]!r}; give the metrics of its 'bbox' task"
            )
        values = np.array([float(metrics[name]) for name in MOTION_METRICS])
        centers = places + (i - (len(runs) - 1) / 2) * width
        # A class of motion without objects has no score: no bar, and the reason in its place.
        heights = np.nan_to_num(values, nan=0.0)
        axes.bar(centers, heights, width * 0.92, label=run, color=COLORS[1 + i % 7])
        for center, value in zip(centers, values, strict=True):
            text = "none" if math.isnan(value) else f"{value:.1f}"
            height = 0 if math.isnan(value) else value
            axes.annotate(
                text, (center, height), (0, 2), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_xticks(places, ["all", "slow", "medium", "fast"])
    axes.set(ylabel="mAP50 (%)", title=title, ylim=(0, 107), yticks=range(0, 101, 20))
    if len(runs) > 1:
        figure.legend(fontsize="small", ncols=min(len(runs), 4), loc="outside lower center")
    tidy(axes, grid_axis="y")
    return figure


def plot_metric_bars(
    runs: Mapping[str, Mapping[str, float]],
    png: str | os.PathLike[str],
    title: str = "mAP50 by speed of the objects",
) -> None:
    """Draw mAP50 overall and over slow, medium and fast objects, one bar a run.

    Args:
        runs: name of the run -> metrics of its `bbox` task in percent; NaN where there is none.
        png: the file to write.

    Raises:
        ValueError: if there is no run, or one lacks a metric.
    """
    save_figure(metric_bars_figure(runs, title), Path(png))


def _plot_losses(axes: Axes, records: list[dict[str, Any]], losses: list[str]) -> None:
    positive = True
    for i, name in enumerate(losses):
        iterations, values = metric_series(records, name)
        color = COLORS[i % len(COLORS)]
        window = max(1, len(values) // 20) // 2 * 2 + 1
        axes.plot(iterations, values, color=color, alpha=0.22, linewidth=0.8)
        axes.plot(
            iterations,
            smooth(values, window),
            color=color,
            linewidth=2.2 if name == "total_loss" else 1.5,
            label=name,
            marker="o" if len(values) == 1 else None,
        )
        finite = values[np.isfinite(values)]
        positive = positive and len(finite) > 0 and bool((finite > 0).all())
    # Losses span orders of magnitude, but a loss that is exactly 0 has no place on a log axis.
    axes.set_yscale("log" if positive else "linear")
    axes.set(xlabel="iteration", ylabel="loss", title="Losses")
    axes.legend(fontsize="small", ncols=2)
    tidy(axes)


def tidy(axes: Axes, grid_axis: Literal["both", "x", "y"] = "both") -> None:
    """Return the look of all plots: a faint grid behind, no frame above and to the right."""
    axes.grid(axis=grid_axis, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, png: Path, dpi: float | None = None) -> None:
    """Write a figure as PNG, whole or not at all; makes the folder. `dpi` None: the figure's.

    Args:
        figure: to write.
        png: file name that ends in `.png`.
        dpi: dots per inch; None: the figure's own.
    """
    if png.suffix.lower() != ".png":
        raise ValueError(f"{png}: the picture is written as PNG; give it a name that ends in .png")
    with open_atomically(png, binary=True) as stream:
        figure.savefig(stream, format="png", dpi=dpi or "figure")
