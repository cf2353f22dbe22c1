"""HOTA and IDF1 of tracks, by trackeval, which MOTChallenge uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from iff_detectron2.structures import NO_TRACK, Detections, GroundTruth
from iff_detectron2.structures.boxes import plain_iou


def tracking_metrics(ground_truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """Return HOTA (mean over its IoU thresholds 0.05 to 0.95) and IDF1 (IoU 0.5), in [0, 1].

    Every class of every video is a sequence of its own, and their counts are summed up. IoUs are
    trackeval's, without the inclusive +1; ignored boxes are left out.

    Args:
        ground_truth: boxes with `tracks` and `places`.
        detections: with `track_ids`; what is on no track is left out.

    Raises:
        ImportError: if trackeval is missing.
    """
    try:
        from trackeval.metrics import HOTA, Identity
    except ImportError as error:
        raise ImportError(
            "HOTA and IDF1 need trackeval: run `pip install trackeval` (the extra `tracks`)"
        ) from error
    metrics = {"HOTA": HOTA(), "IDF1": Identity({"THRESHOLD": 0.5, "PRINT_CONFIG": False})}
    results: dict[str, dict[Any, Any]] = {name: {} for name in metrics}
    for key, data in _sequences(ground_truth, detections):
        for name, metric in metrics.items():
            results[name][key] = metric.eval_sequence(data)
    if not results["HOTA"]:
        return {name: float("nan") for name in metrics}
    return {
        name: float(np.mean(metric.combine_sequences(results[name])[name]))
        for name, metric in metrics.items()
    }


def _sequences(
    ground_truth: GroundTruth, detections: Detections
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Yield (video, class) and what trackeval wants to know of it."""
    assert ground_truth.tracks is not None
    assert ground_truth.places is not None
    videos = ground_truth.places[:, 0]
    truth_rows = np.flatnonzero(~ground_truth.ignored)
    found_rows = np.flatnonzero(detections.tracks() != NO_TRACK)
    truth_keys = _keys(videos[ground_truth.frames[truth_rows]], ground_truth.classes[truth_rows])
    found_keys = _keys(videos[detections.frames[found_rows]], detections.classes[found_rows])
    for video, class_id in sorted(truth_keys.keys() | found_keys.keys()):
        nothing = np.empty(0, dtype=np.int64)
        truth = truth_rows[truth_keys.get((video, class_id), nothing)]
        found = found_rows[found_keys.get((video, class_id), nothing)]
        truth_ids = np.unique(ground_truth.tracks[truth], return_inverse=True)[1].reshape(-1)
        found_ids = np.unique(detections.tracks()[found], return_inverse=True)[1].reshape(-1)
        data: dict[str, Any] = {
            "num_gt_dets": len(truth),
            "num_tracker_dets": len(found),
            "num_gt_ids": int(truth_ids.max(initial=-1)) + 1,
            "num_tracker_ids": int(found_ids.max(initial=-1)) + 1,
            "gt_ids": [],
            "tracker_ids": [],
            "similarity_scores": [],
        }
        truth_frames, found_frames = ground_truth.frames[truth], detections.frames[found]
        for frame in np.union1d(truth_frames, found_frames):
            here, there = (
                np.flatnonzero(truth_frames == frame),
                np.flatnonzero(found_frames == frame),
            )
            boxes = ground_truth.boxes[truth[here]].repeat(len(there), axis=0)
            others = np.tile(detections.boxes[found[there]], (len(here), 1))
            data["gt_ids"].append(truth_ids[here])
            data["tracker_ids"].append(found_ids[there])
            shape = len(here), len(there)
            data["similarity_scores"].append(plain_iou(boxes, others).reshape(shape))
        yield (video, class_id), data


def _keys(videos: np.ndarray, classes: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the rows of each (video, class)."""
    order = np.lexsort((classes, videos))
    pairs = np.stack([videos[order], classes[order]], axis=1)
    starts = np.flatnonzero((np.diff(pairs, axis=0, prepend=-1) != 0).any(axis=1))
    return (
        {
            (int(pairs[start][0]), int(pairs[start][1])): rows
            for start, rows in zip(starts, np.split(order, starts[1:]), strict=True)
        }
        if len(order)
        else {}
    )
