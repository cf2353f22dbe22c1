"""How sure a difference between two detectors is: the paired bootstrap over videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from iff_detectron2.structures import Detections, GroundTruth

from .protocols import evaluate_arrays


def bootstrap_metrics(
    ground_truth: GroundTruth,
    runs: Sequence[Detections],
    videos: Sequence[object],
    *,
    metric: str = "mAP50",
    protocol: str = "fgfa",
    samples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Score runs on sets of videos drawn with replacement, the same sets for all runs.

    Videos and not frames are drawn, since the frames of a video are no independent evidence
    (Efron and Tibshirani 1993, ch. 8: resample the units that are independent). The differences
    between columns of the result are paired.

    Args:
        ground_truth: boxes of all frames.
        runs: detections of the same frames, one set per detector.
        videos: what video each frame row belongs to, [num_frames].
        metric: of `EvaluationResult.metrics`.
        protocol: as for `evaluate_arrays`.
        samples: sets that are drawn.
        seed: of the draws.
        progress: show a progress bar.

    Returns:
        [samples, runs]; NaN where the metric is unknown in a set, as without a fast object.

    Raises:
        ValueError: if `videos` has another length, or there is nothing to draw.
    """
    if len(videos) != ground_truth.num_frames:
        raise ValueError(
            f"videos names {len(videos)} frames, the ground truth has {ground_truth.num_frames}"
        )
    if not len(videos) or samples < 1:
        raise ValueError(f"there is nothing to draw: {len(videos)} frames, {samples} samples")
    order: dict[object, int] = {}
    video = np.array([order.setdefault(name, len(order)) for name in videos])
    frames_of = [np.flatnonzero(video == number) for number in range(len(order))]
    truth = ground_truth.sorted_by_frame()
    sorted_runs = [run.sorted_by_frame() for run in runs]
    rng = np.random.default_rng(seed)
    table = np.full((samples, len(runs)), np.nan)
    for row in tqdm(range(samples), desc="Bootstrap", disable=not progress):
        drawn = rng.integers(0, len(order), len(order))
        frames = np.concatenate([frames_of[number] for number in drawn])
        some = _some_frames_of_truth(truth, frames)
        for column, run in enumerate(sorted_runs):
            starts = run.row_starts(ground_truth.num_frames)
            rows, numbers = _rows_of(starts, frames)
            chosen = replace(run[rows], frames=numbers)
            metrics = evaluate_arrays(some, chosen, protocol).metrics()
            table[row, column] = metrics.get(metric, np.nan)
    return table


def _rows_of(starts: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that lie in frames, which may repeat, and for each its frame's position."""
    counts = starts[frames + 1] - starts[frames]
    numbers = np.repeat(np.arange(len(frames)), counts)
    first = np.repeat(starts[frames] - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    return np.arange(len(numbers)) + first, numbers


def _some_frames_of_truth(truth: GroundTruth, frames: np.ndarray) -> GroundTruth:
    """Take frames, which may repeat; without tracks, as a video may be there twice."""
    rows, numbers = _rows_of(truth.row_starts, frames)
    without = replace(truth, tracks=None, places=None)
    return replace(without[rows], frames=numbers, num_frames=len(frames))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values, NaN left out."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
