"""Average precision of one class, as the area under the precision envelope (VOC 2010)."""

from __future__ import annotations

import numpy as np

RECALL_POINTS = np.linspace(0, 1, 101)


def precision_recall(
    true_positive: np.ndarray, false_positive: np.ndarray, num_positives: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall after each detection.

    Args:
        true_positive: shape [N], 1 for a hit, detections by falling score.
        false_positive: shape [N], weight of a false alarm; FGFA's may be fractions.
        num_positives: boxes to be found, at least 1.

    Returns:
        Precision and recall, each of shape [N]. Precision is 0 as long as nothing was counted.

    Raises:
        ValueError: if `num_positives` is not positive.
    """
    if num_positives <= 0:
        raise ValueError(f"num_positives is {num_positives}; recall needs at least one box")
    hits = np.cumsum(true_positive, dtype=np.float64)
    counted = hits + np.cumsum(false_positive, dtype=np.float64)
    precision = np.divide(hits, counted, out=np.zeros_like(hits), where=counted > 0)
    return precision, hits / num_positives


def average_precision(
    true_positive: np.ndarray, false_positive: np.ndarray, num_positives: int
) -> float:
    """Return the area under the monotone precision envelope, summed at every change of recall.

    Arguments as for `precision_recall`.

    Returns:
        The area in [0, 1]; nan for a class without positives, which has no average precision.
    """
    return average_precision_and_curve(true_positive, false_positive, num_positives)[0]


def average_precision_and_curve(
    true_positive: np.ndarray, false_positive: np.ndarray, num_positives: int
) -> tuple[float, np.ndarray]:
    """Return the average precision, and the precision envelope at `RECALL_POINTS`.

    Arguments as for `precision_recall`.

    Returns:
        The area, and a curve of shape [101] for pictures: the highest precision at that recall or
        more, 0 where it is not reached. All nan for a class without positives.
    """
    if num_positives <= 0:
        return float("nan"), np.full(len(RECALL_POINTS), np.nan)
    precision, recall = precision_recall(true_positive, false_positive, num_positives)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    # A hair less, so that a recall of 3 / 10 reaches the point 0.3.
    reached = np.searchsorted(recall, RECALL_POINTS - 1e-9)
    return area, np.append(envelope, 0.0)[reached]


def mean_over_classes(values: np.ndarray) -> float:
    """Return the mean of the classes that have a value, nan if none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
