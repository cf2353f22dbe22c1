"""The evaluation for people: one self-contained HTML page, and its curves as SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from iff_detectron2.evaluation.evaluation_dataset import EvaluationDataset
from iff_detectron2.utils.files import open_atomically

from . import figures
from .charts import BarChart, Panel
from .clips import make_clip
from .page import Page, WorstFrame
from .provenance import provenance
from .runs import Run, score_run
from .worst_frames import FramePicture, draw_frame, worst_frames

__all__ = ["Run", "provenance", "score_run", "write_report"]

MOST_CLIPS = 6  # more make a page of many megabytes
FIGURES = (
    figures.motion_bars,
    figures.class_bars,
    figures.f1_curves,
    figures.range_curves,
    figures.class_curves,
    figures.error_bars,
    figures.gain_bars,
    figures.class_errors,
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
    """Write `report.html`, and its curves as SVG into `figures/` beside it.

    Args:
        folder: where to write; it is made.
        dataset: what was evaluated.
        runs: one run, or two side by side, of `score_run`.
        num_worst: frames of the first run with the most errors that are shown; the first six as
            clips.
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
    for draw in FIGURES:
        chart = draw(runs)
        if chart is None:
            continue
        page.charts[draw.__name__] = chart
        if not (isinstance(chart.content, BarChart) or chart.small):
            _save_panels(chart.content, folder / "figures", draw.__name__)
    rows = worst_frames(runs[0].errors, dataset.frames, num_worst)
    page.worst = [
        WorstFrame(
            _place(dataset.frames[row]),
            [_show(run, dataset.frames, row, clip=number < MOST_CLIPS) for run in runs],
        )
        for number, row in enumerate(
            tqdm(rows, desc="Drawing the worst frames", disable=not progress)
        )
    ]
    path = folder / "report.html"
    with open_atomically(path) as stream:
        stream.write(page.html())
    return path


def _save_panels(panels: Sequence[Panel], folder: Path, name: str) -> None:
    """Write curves for papers and slides."""
    for letter, panel in zip("AB", panels, strict=False):
        path = folder / (f"{name}_{letter}.svg" if len(panels) > 1 else f"{name}.svg")
        with open_atomically(path) as stream:
            stream.write(panel.svg(alone=True))


def _show(run: Run, frames: Sequence[dict[str, Any]], row: int, clip: bool) -> FramePicture:
    """Draw a frame, and what is around it; a clip that cannot be made is told in its place."""
    picture = draw_frame(run.errors, frames[row], row)
    if picture.picture is None or not clip:
        return picture
    try:
        return replace(picture, clip=make_clip(run.errors, frames, row))
    except (OSError, ValueError) as error:
        return replace(picture, problem=f"no clip: {error}")


def _place(frame: dict[str, Any]) -> str:
    """Where a frame is, in words."""
    if frame.get("video_id") is None or frame.get("frame_index") is None:
        return f"image_id {frame['image_id']}"
    return f"{frame['video_id']}, frame {frame['frame_index']}"
