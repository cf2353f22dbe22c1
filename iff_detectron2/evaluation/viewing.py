"""What a viewer of the annotated video notices: steadiness, delay, and whether tracks hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from iff_detectron2.structures import NO_TRACK, Detections, GroundTruth

from .delay import average_delay, mean_delay
from .stability import measure_stability
from .track_matches import match_tracks
from .tracking import tracking_metrics


@dataclass(frozen=True)
class Viewing:
    """What was measured along tracks, by name; nan where there is nothing to measure.

    Attributes:
        score: detections with this score or more were looked at.
        values: `fragment_error`, `centre_error`, `scale_ratio_error` and their sum
            `stability_error` (0 is best); `delay` at this score and `average_delay`, in frames;
            `HOTA` and `IDF1`, in [0, 1], where the detections have tracks.
        note: why HOTA and IDF1 are missing, though the detections have tracks.
    """

    score: float
    values: dict[str, float] = field(default_factory=dict)
    note: str = ""


def measure_viewing(
    ground_truth: GroundTruth,
    detections: Detections,
    matched: np.ndarray,
    false_alarms: np.ndarray,
    score: float,
) -> Viewing | None:
    """Measure what a viewer notices at a score; None where the tracks of the labels are not known.

    Args:
        ground_truth: boxes of all frames.
        detections: checked detections.
        matched: shape [N], row of the box that each is matched to, -1 for none.
        false_alarms: shape [N], True for detections that are wrong.
        score: the operating point.
    """
    if ground_truth.tracks is None:
        return None
    tracks = match_tracks(ground_truth, detections, matched)
    stability = measure_stability(ground_truth, detections, tracks, score)
    values = {
        "fragment_error": stability.fragment,
        "centre_error": stability.centre,
        "scale_ratio_error": stability.scale_ratio,
        "stability_error": stability.error,
        "delay": mean_delay(tracks, score),
        "average_delay": average_delay(tracks, detections.scores[false_alarms], len(tracks.boxes)),
    }
    note = ""
    kept = detections[(detections.scores >= score) & (detections.tracks() != NO_TRACK)]
    if len(kept):
        try:
            values.update(tracking_metrics(ground_truth, kept))
        except ImportError as error:
            note = str(error)
    return Viewing(score, values, note)
