"""The score at which a detector is best used: where F1, the mean of precision and recall, is best.

F1 at a score is 2 TP / (TP + FP + TP + FN) of the detections with that score or more. Matches are
by the ILSVRC devkit's rule, whatever the protocol; since better scores are matched first, they are
the same at every threshold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.utils.files import open_atomically

OPERATING_POINT_FILE = "operating_point.json"
SCORE_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class OperatingPoint:
    """A score to cut detections at, and what is left; nan without boxes to find or hits.

    Attributes:
        score: detections with this score or more are kept.
        f1: harmonic mean of precision and recall, in [0, 1].
        precision: part of the kept detections that are right, in [0, 1].
        recall: part of the boxes that are found, in [0, 1].
    """

    score: float = math.nan
    f1: float = math.nan
    precision: float = math.nan
    recall: float = math.nan


@dataclass(frozen=True)
class OperatingPoints:
    """The best operating points of a run.

    Attributes:
        overall: for one score for all classes; every detection and box counts the same.
        classes: for a score of each class's own.
        f1: shape [K + 1, 101], F1 at `SCORE_POINTS`, overall and of each class; nan without boxes.
    """

    overall: OperatingPoint
    classes: Sequence[OperatingPoint]
    f1: np.ndarray


def find_operating_points(
    scores: np.ndarray,
    rows_by_class: Sequence[np.ndarray],
    hits: np.ndarray,
    ignored: np.ndarray,
    positives: np.ndarray,
) -> OperatingPoints:
    """Find the score of the best F1, overall and of each class; the highest of equal ones.

    Args:
        scores: shape [N].
        rows_by_class: rows of each class, by falling score.
        hits: shape [N], True for detections that are matched to a box to find.
        ignored: shape [N], True for those matched to a box that counts neither way.
        positives: shape [K], boxes to find of each class.
    """
    pairs = []
    for rows, count in zip(rows_by_class, positives.tolist(), strict=True):
        counted = rows[~ignored[rows]]
        pairs.append(_best(scores[counted], scores[counted[hits[counted]]], count))
    # Only values are sorted here: rows of all classes by score would take much longer.
    counted, right = (np.sort(values)[::-1] for values in (scores[~ignored], scores[hits]))
    overall = _best(counted, right, int(positives.sum()))
    curves = np.stack([overall[1], *(curve for _, curve in pairs)])
    return OperatingPoints(overall[0], tuple(point for point, _ in pairs), curves)


def _best(
    counted: np.ndarray, hits: np.ndarray, positives: int
) -> tuple[OperatingPoint, np.ndarray]:
    """Return the best point, and F1 at `SCORE_POINTS`.

    Args:
        counted: scores of all detections that count, falling.
        hits: scores of those that are right, falling.
        positives: boxes to find.
    """
    if not positives:
        return OperatingPoint(), np.full(len(SCORE_POINTS), np.nan)

    def rates(thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        right, kept = (
            len(values) - np.searchsorted(values[::-1], thresholds) for values in (hits, counted)
        )
        precision = right / np.maximum(kept, 1)
        return 2 * right / (kept + positives), precision, right / positives

    # A hair less, so that a score of 0.7 is kept at the point 0.7 in single precision too.
    curve = rates((SCORE_POINTS - 1e-6).astype(counted.dtype))[0]
    if not len(hits):
        return OperatingPoint(), curve
    # A detection that is wrong only lowers F1, so that the best score is one of a hit.
    thresholds = np.unique(hits)[::-1]
    f1, precision, recall = rates(thresholds)
    best = int(np.argmax(f1))
    values = (thresholds[best], f1[best], precision[best], recall[best])
    return OperatingPoint(*map(float, values)), curve


def save_operating_points(
    points: OperatingPoints, folder: str | Path, dataset_name: str, class_names: Sequence[str]
) -> Path:
    """Write `operating_point.json`: what `OperatingPoint` holds, overall and by class.

    Args:
        points: to write.
        folder: where to.
        dataset_name: that they were found on.
        class_names: names by class number.
    """
    content: dict[str, Any] = {
        "dataset": dataset_name,
        "overall": _to_json(points.overall),
        "classes": {
            name: _to_json(point) for name, point in zip(class_names, points.classes, strict=True)
        },
    }
    path = Path(folder, OPERATING_POINT_FILE)
    with open_atomically(path) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
    return path


def load_operating_point(path: str | Path) -> OperatingPoint | None:
    """Read the overall point of a file of `save_operating_points`; None if it has no score.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file.
    """
    try:
        overall = json.loads(Path(path).read_text(encoding="utf-8"))["overall"]
        values = [overall[name] for name in ("score", "f1", "precision", "recall")]
        point = OperatingPoint(*(math.nan if v is None else float(v) for v in values))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is not a file of operating points; delete it") from error
    return None if math.isnan(point.score) else point


def _to_json(point: OperatingPoint) -> dict[str, float | None]:
    return {name: None if math.isnan(v) else v for name, v in asdict(point).items()}
