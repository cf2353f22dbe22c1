"""The evaluation for people: one self-contained HTML page and its plots as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from iff_detectron2.evaluation.evaluation_dataset import EvaluationDataset
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.visualization.plots import save_figure

from . import figures
from .page import Page, WorstFrame
from .provenance import provenance
from .runs import Run, score_run
from .worst_frames import draw_frame, worst_frames

__all__ = ["Run", "provenance", "score_run", "write_report"]

CSS_PIXELS_PER_INCH = 96
FIGURES = (
    figures.motion_bars,
    figures.class_bars,
    figures.f1_curves,
    figures.range_curves,
    figures.class_curves,
    figures.error_bars,
    figures.class_errors,
    figures.confusion,
    figures.score_histograms,
)


def write_report(
    folder: str | Path,
    dataset: EvaluationDataset,
    runs: Sequence[Run],
    *,
    num_worst: int = 12,
    made: Sequence[tuple[str, str]] = (),
    progress: bool = False,
) -> Path:
    """Write `report.html`, and its plots into `figures/` beside it.

    Args:
        folder: where to write; it is made.
        dataset: what was evaluated.
        runs: one run, or two side by side, of `score_run`.
        num_worst: frames of the first run with the most errors that are shown.
        made: how the page was made, for its foot; see `provenance`.
        progress: show a progress bar.

    Returns:
        The path of the page.

    Raises:
        ValueError: if there are no runs or more than two, or they differ in protocol or ranges.
    """
    if not 1 <= len(runs) <= 2:
        raise ValueError(f"The report shows one or two runs, not {len(runs)}")
    first = runs[0].result
    for run in runs[1:]:
        ranges = [r.range for r in run.result.ranges]
        if run.result.protocol != first.protocol or ranges != [r.range for r in first.ranges]:
            raise ValueError(
                f"Runs {runs[0].name!r} and {run.name!r} are scored by different protocols or "
                "ranges; score both in the same way"
            )
    folder = Path(folder)
    page = Page(dataset.name, runs, made=made)
    for draw in tqdm(FIGURES, desc="Drawing", disable=not progress):
        figure: Figure | None = draw(runs)
        if figure is not None:
            path = folder / "figures" / f"{draw.__name__}.png"
            save_figure(figure, path, dpi=2 * CSS_PIXELS_PER_INCH)
            page.images[draw.__name__] = path.read_bytes()
    page.worst = [
        WorstFrame(
            _place(dataset.frames[row]),
            [draw_frame(run.errors, dataset.frames[row], row) for run in runs],
        )
        for row in worst_frames(runs[0].errors, dataset.frames, num_worst)
    ]
    path = folder / "report.html"
    with open_atomically(path) as stream:
        stream.write(page.html())
    return path


def _place(frame: dict[str, Any]) -> str:
    """Where a frame is, in words."""
    if frame.get("video_id") is None or frame.get("frame_index") is None:
        return f"image_id {frame['image_id']}"
    return f"{frame['video_id']}, frame {frame['frame_index']}"
