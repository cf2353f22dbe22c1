"""Evaluation results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tabulate import tabulate

from iff_detectron2.utils.files import open_atomically

from .operating_point import save_operating_points
from .protocols import ANY_AREA, ANY_MOTION, PROTOCOL_TITLES, EvaluationResult, RangeResult
from .viewing import Viewing

VIEWING_TITLES = {
    "fragment_error": "fragment error",
    "centre_error": "centre position error",
    "scale_ratio_error": "scale and ratio error",
    "stability_error": "stability error, their sum",
    "delay": "delay (frames)",
    "average_delay": "average delay (frames)",
    "HOTA": "HOTA",
    "IDF1": "IDF1",
}


def format_result(result: EvaluationResult, title: str = "") -> str:
    """Write a result as text; its head names the protocol that the numbers are from.

    Args:
        result: what `evaluate_detections` returned.
        title: what was evaluated, e.g. the dataset.

    Returns:
        A table of the ranges and one of the classes, AP in percent.
    """
    lines = [f"Protocol: {PROTOCOL_TITLES[result.protocol]}"]
    if title:
        lines.append(f"Dataset: {title}")
    total = int(result.ranges[0].positives.sum())
    lines.append(
        f"{result.num_frames} frames, {total} boxes to find, {result.num_detections} detections"
    )
    rows = [
        [
            r.range.name or "all",
            _interval(r.range.motion, ANY_MOTION),
            _interval(r.range.area, ANY_AREA),
            _percent(r.mean_ap),
            "-" if r.unavailable else int(r.positives.sum()),
            _percent(r.share),
        ]
        for r in result.ranges
    ]
    headers = ["range", "motion IoU", "area", "mAP50", "boxes", "share %"]
    lines += ["", _table(rows, headers, text_columns=3)]
    lines += [
        f"{r.range.metric} is unavailable: {r.unavailable}." for r in result.ranges if r.unavailable
    ]
    if result.extra:
        values = [[_percent(value) for value in result.extra.values()]]
        lines += ["", _table(values, list(result.extra))]
    lines += ["", _class_table(result), "", _points_table(result)]
    if result.viewing is not None:
        lines += ["", *_viewing_lines(result.viewing)]
    return "\n".join(lines) + "\n"


def result_to_json(result: EvaluationResult) -> dict[str, Any]:
    """Return a result as values that JSON knows; what could not be measured is null."""
    return {
        "protocol": result.protocol,
        "num_frames": result.num_frames,
        "num_detections": result.num_detections,
        "bbox": {name: _or_null(value) for name, value in result.metrics().items()},
        "ranges": [
            {
                "metric": r.range.metric,
                "motion_iou": list(r.range.motion),
                "area": [_or_null(end) for end in r.range.area],
                "share": _or_null(100.0 * r.share),
                "unavailable": r.unavailable,
                "classes": {
                    name: {"AP50": _or_null(100.0 * float(ap)), "boxes": int(boxes)}
                    for name, ap, boxes in zip(result.class_names, r.ap, r.positives, strict=True)
                },
            }
            for r in result.ranges
        ],
        "viewing": result.viewing
        and {
            "score": result.viewing.score,
            **{name: _or_null(value) for name, value in result.viewing.values.items()},
        },
    }


def save_result(result: EvaluationResult, folder: str | Path, dataset_name: str) -> None:
    """Write `results.json`, `results.txt` and `operating_point.json`, each whole or not at all.

    Args:
        result: what `evaluate_detections` returned.
        folder: where to write; it is made.
        dataset_name: what was evaluated.
    """
    content = {"dataset": dataset_name, **result_to_json(result)}
    with open_atomically(Path(folder, "results.json")) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
    with open_atomically(Path(folder, "results.txt")) as stream:
        stream.write(format_result(result, dataset_name))
    save_operating_points(result.points, folder, dataset_name, result.class_names)


def _class_table(result: EvaluationResult) -> str:
    shown: list[RangeResult] = [r for r in result.ranges if not r.unavailable]
    rows = [
        [
            name,
            int(result.ranges[0].positives[class_id]),
            *(_percent(float(r.ap[class_id])) for r in shown),
        ]
        for class_id, name in enumerate(result.class_names)
    ]
    headers = ["class", "boxes", *("AP50" + r.range.metric.removeprefix("mAP50") for r in shown)]
    return _table(rows, headers, text_columns=1)


def _points_table(result: EvaluationResult) -> str:
    """Return the scores of the best F1, with what precision and recall are there."""
    points = [("all", result.points.overall)]
    points += zip(result.class_names, result.points.classes, strict=True)
    rows = [
        [name, _number(p.score, 4), _percent(p.f1), _percent(p.precision), _percent(p.recall)]
        for name, p in points
    ]
    return _table(rows, ["best F1 of", "at score", "F1", "precision", "recall"], text_columns=1)


def _viewing_lines(viewing: Viewing) -> list[str]:
    rows = [[VIEWING_TITLES[name], _number(value, 4)] for name, value in viewing.values.items()]
    headers = [f"along tracks, scores from {viewing.score:.4f}", "value"]
    return [_table(rows, headers, text_columns=1), *([f"{viewing.note}."] if viewing.note else [])]


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _table(rows: list[list[Any]], headers: list[str], text_columns: int = 0) -> str:
    # Numbers come formatted; tabulate would cut their trailing zeros.
    align = ["left"] * text_columns + ["right"] * (len(headers) - text_columns)
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100.0 * value:.2f}"


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(ends: tuple[float, float], everything: tuple[float, float]) -> str:
    return "any" if ends == everything else f"{ends[0]:g} to {ends[1]:g}"
