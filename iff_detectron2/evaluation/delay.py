"""How many frames it takes until a new object is first found.

Mao, Yang and Dally, "A Delay Metric for Video Object Detection: What Average Precision Fails to
Tell" (ICCV 2019). A low threshold finds everything at once, among many false alarms; therefore the
threshold is set by the number of false alarms, and several such numbers are taken together.
"""

from __future__ import annotations

import numpy as np

from .track_matches import TrackMatches

FALSE_ALARM_RATIOS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # per box to find
LONGEST_DELAY = 30  # frames; an object that is found later, or never, is as good as missed


def mean_delay(tracks: TrackMatches, score: float, inclusive: bool = True) -> float:
    """Return the mean delay of all tracks at a threshold, in frames; nan without tracks.

    The delay of a track is the number of frames from its first label to the first of its boxes that
    is found, `LONGEST_DELAY` at most; that to its last label if none is.

    Args:
        tracks: what the labelled tracks are matched with.
        score: detections with a lower one are left out.
        inclusive: take detections with just this score.
    """
    if not len(tracks.numbers):
        return float("nan")
    found = tracks.scores >= score if inclusive else tracks.scores > score
    first, last = (np.empty(tracks.numbers[-1] + 1, dtype=np.int64) for _ in range(2))
    # The rows of a track ascend in time: of several values the last stays.
    first[tracks.numbers[::-1]] = tracks.frame_indices[::-1]
    last[tracks.numbers] = tracks.frame_indices
    rows = np.flatnonzero(found)[::-1]
    last[tracks.numbers[rows]] = tracks.frame_indices[rows]
    return float(np.minimum(last - first, LONGEST_DELAY).mean())


def average_delay(tracks: TrackMatches, false_alarms: np.ndarray, num_boxes: int) -> float:
    """Return the average delay: of the mean delays d at each of `FALSE_ALARM_RATIOS`, 1 / mean(1 /
    (d + 1)) - 1.

    Args:
        tracks: what the labelled tracks are matched with.
        false_alarms: scores of the detections that are wrong.
        num_boxes: boxes to find, which the ratios are of.
    """
    falling = np.sort(false_alarms)[::-1]
    delays = []
    for ratio in FALSE_ALARM_RATIOS:
        allowed = int(ratio * num_boxes)
        # Over the score of the first false alarm that is one too many.
        limit = float(falling[allowed]) if allowed < len(falling) else -np.inf
        delays.append(mean_delay(tracks, limit, inclusive=False))
    return float(1 / np.mean(1 / (np.array(delays) + 1)) - 1)
