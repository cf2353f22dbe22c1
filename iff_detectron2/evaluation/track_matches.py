"""The boxes of the labelled tracks in the order of time, and what each was matched with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth


@dataclass(frozen=True)
class TrackMatches:
    """Labelled boxes by track and then time, [T] each; ignored boxes are left out.

    Attributes:
        numbers: number of the track, 0 to the number of tracks - 1, ascending.
        frame_indices: frame of the video, from 0, ascending in a track.
        boxes: row in the ground truth.
        detections: row of the detection that is matched to the box, -1 for none.
        scores: its score, -inf for none.
    """

    numbers: np.ndarray
    frame_indices: np.ndarray
    boxes: np.ndarray
    detections: np.ndarray
    scores: np.ndarray


def match_tracks(
    ground_truth: GroundTruth, detections: Detections, matched: np.ndarray
) -> TrackMatches:
    """Put the matches of boxes in the order of their tracks.

    Args:
        ground_truth: boxes with `tracks` and `places`.
        detections: what was matched with them.
        matched: shape [N], row of the box that each detection is matched to, -1 for none.

    Raises:
        ValueError: if the tracks are not known.
    """
    if ground_truth.tracks is None or ground_truth.places is None:
        raise ValueError(f"tracks are not known: {ground_truth.motion_note}")
    detection_of_box = np.full(len(ground_truth), -1, dtype=np.int64)
    rows = np.flatnonzero(matched >= 0)
    detection_of_box[matched[rows]] = rows
    boxes = np.flatnonzero(~ground_truth.ignored)
    indices = ground_truth.places[ground_truth.frames[boxes], 1]
    order = np.lexsort((indices, ground_truth.tracks[boxes]))
    boxes, indices = boxes[order], indices[order]
    found = detection_of_box[boxes]
    # The last entry answers for row -1.
    scores = np.append(detections.scores.astype(np.float64), -np.inf)[found]
    _, numbers = np.unique(ground_truth.tracks[boxes], return_inverse=True)
    return TrackMatches(numbers.reshape(-1), indices, boxes, found, scores)
