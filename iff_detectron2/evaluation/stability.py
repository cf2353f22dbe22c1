"""How steady detections are along the tracks of the labels.

Zhang and Wang, "On The Stability of Video Detection and Tracking" (2016): of each annotated track,
how often it is lost and found again, and how much the boxes found jitter about the labels. The
paper takes the mean over all score thresholds; here it is one, the operating point, which is what a
viewer sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iff_detectron2.structures import Detections, GroundTruth

from .track_matches import TrackMatches


@dataclass(frozen=True)
class Stability:
    """Errors along tracks, means over the tracks; 0 is perfect, nan where no track can tell.

    Attributes:
        fragment: changes between found and missed, over the most that there could be; of tracks of
            two boxes or more.
        centre: standard deviation of the centre's offset in x, in widths of the labelled box, and
            of that in y, in heights, added; of tracks found twice or more, as the next.
        scale_ratio: standard deviation of sqrt(area / labelled area), and of the ratio of the two
            aspect ratios, added.
    """

    fragment: float
    centre: float
    scale_ratio: float

    @property
    def error(self) -> float:
        """The stability error, the sum of the three."""
        return self.fragment + self.centre + self.scale_ratio


def measure_stability(
    ground_truth: GroundTruth, detections: Detections, tracks: TrackMatches, score: float
) -> Stability:
    """Measure how steady the detections with a score or more are; sizes are inclusive (+1).

    Args:
        ground_truth: boxes, the rows of `tracks`.
        detections: likewise.
        tracks: what the labelled tracks are matched with.
        score: detections with a lower one are left out.
    """
    found = tracks.scores >= score
    track = tracks.numbers
    lengths = np.bincount(track)
    pairs = track[1:] == track[:-1]
    changes = np.bincount(
        track[1:], (pairs & (found[1:] != found[:-1])).astype(float), minlength=len(lengths)
    )
    long = lengths >= 2
    fragment = _mean(changes[long] / (lengths[long] - 1))

    where = np.flatnonzero(found)
    truth = _centre_and_size(ground_truth.boxes[tracks.boxes[where]])
    seen = _centre_and_size(detections.boxes[tracks.detections[where]])
    offset = (seen[:, :2] - truth[:, :2]) / truth[:, 2:]
    scale = np.sqrt(seen[:, 2:].prod(axis=1) / truth[:, 2:].prod(axis=1))
    ratio = (seen[:, 2] / seen[:, 3]) / (truth[:, 2] / truth[:, 3])
    x, y, s, r = (_spread(values, track[where]) for values in (*offset.T, scale, ratio))
    return Stability(fragment, _mean(x + y), _mean(s + r))


def _centre_and_size(boxes: np.ndarray) -> np.ndarray:
    """Return centre and inclusive size of XYXY boxes, [N, 4]."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2] + 1], 1)


def _spread(values: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Return the standard deviation along each track with two values or more."""
    counts = np.bincount(track)
    means = np.bincount(track, values) / np.maximum(counts, 1)
    squares = np.bincount(track, (values - means[track]) ** 2)
    several = counts >= 2
    return np.sqrt(squares[several] / counts[several])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
