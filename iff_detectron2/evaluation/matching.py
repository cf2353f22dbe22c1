"""Matching of detections to ground truth boxes.

The greedy matching does not look at a motion or area range: boxes outside of it stay matchable.
It is therefore done once, and every range is counted from the same matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from iff_detectron2.structures import Detections, GroundTruth
from iff_detectron2.structures.boxes import inclusive_iou

from .false_positives import MotionRangeWeights

IOU_THRESHOLD = 0.5
PIXEL_TOLERANCE = 10.0
PAIRS_PER_CHUNK = 1 << 18  # a chunk's work arrays stay in a few tens of MB


@dataclass(frozen=True)
class Matches:
    """Outcome of the matching.

    Attributes:
        boxes: shape [N], row of the box each detection is matched to, -1 for none.
        false_positive: shape [R, N], weight of each detection as a false positive in each motion
            range, 0 for matched ones.
    """

    boxes: np.ndarray
    false_positive: np.ndarray


def iou_thresholds(boxes: np.ndarray) -> np.ndarray:
    """Return the IoU that a match with each box needs; small boxes need less.

    min(0.5, w h / ((w + 10) (h + 10))) with inclusive w and h: the rule of the ILSVRC devkit.

    Args:
        boxes: shape [G, 4], XYXY in pixels.

    Returns:
        Shape [G], float64.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    width = boxes[:, 2] - boxes[:, 0] + 1
    height = boxes[:, 3] - boxes[:, 1] + 1
    tolerant = width * height / ((width + PIXEL_TOLERANCE) * (height + PIXEL_TOLERANCE))
    return np.minimum(IOU_THRESHOLD, tolerant)


def match_detections(
    ground_truth: GroundTruth,
    detections: Detections,
    motion_ranges: Sequence[tuple[float, float]] | None = None,
    progress: bool = False,
) -> Matches:
    """Match detections to boxes, and weigh the unmatched ones as false positives.

    The detections of a frame by falling score (equal scores: in the order given) take, of the
    free boxes of their class that they overlap by at least the box's own threshold, the one with
    the highest IoU (equal: the first). vid_protocol, Evaluation 1.

    Args:
        ground_truth: boxes sorted by frame.
        detections: detections sorted by frame.
        motion_ranges: (lowest, highest) motion IoU of each range, inclusive, for FGFA's weights
            (see `MotionRangeWeights`). None for the devkit's: one range, every unmatched
            detection weighs 1.
        progress: show a progress bar.

    Returns:
        The matched boxes and the weights, in the order of `detections`.
    """
    weigh = None if motion_ranges is None else MotionRangeWeights(ground_truth, motion_ranges)
    matched = np.full(len(detections), -1, dtype=np.int32)
    weights = np.zeros((1 if motion_ranges is None else len(motion_ranges), len(detections)))
    thresholds = iou_thresholds(ground_truth.boxes)
    box_starts = ground_truth.row_starts
    box_counts = np.diff(box_starts)
    with tqdm(
        total=ground_truth.num_frames, desc="Matching", unit="frame", disable=not progress
    ) as bar:
        for num_frames, rows in _chunks(ground_truth, detections):
            frames = detections.frames[rows]
            classes, scores = detections.classes[rows], detections.scores[rows]
            counts = box_counts[frames]
            pair_detection, pair_box = detection_box_pairs(counts, box_starts[frames])
            iou = inclusive_iou(
                detections.boxes[rows][pair_detection], ground_truth.boxes[pair_box]
            )
            candidate = iou >= thresholds[pair_box]
            candidate &= classes[pair_detection] == ground_truth.classes[pair_box]
            chosen = pair_detection[candidate]
            taken, taken_boxes = _greedy(
                frames[chosen], scores[chosen], chosen, iou[candidate], pair_box[candidate]
            )
            matched[rows][taken] = taken_boxes  # a slice is a view
            chunk_weights = weights[:, rows]
            chunk_weights[:] = 1 if weigh is None else weigh(frames, counts, pair_box, iou)
            chunk_weights[:, taken] = 0
            bar.update(num_frames)
    return Matches(matched, weights)


def _chunks(ground_truth: GroundTruth, detections: Detections) -> Iterator[tuple[int, slice]]:
    """Cut the frames so that a chunk has a bounded number of (detection, box) pairs.

    Yields:
        Number of frames and the rows of their detections.
    """
    starts = detections.row_starts(ground_truth.num_frames)
    # One more a detection: frames without boxes have no pairs, but still work arrays.
    cost = np.cumsum(np.diff(starts) * (np.diff(ground_truth.row_starts) + 1))
    first = 0
    while first < ground_truth.num_frames:
        before = cost[first - 1] if first else 0
        last = int(np.searchsorted(cost, before + PAIRS_PER_CHUNK, side="right"))
        last = min(max(last, first + 1), ground_truth.num_frames)
        yield last - first, slice(int(starts[first]), int(starts[last]))
        first = last


def detection_box_pairs(counts: np.ndarray, first_box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List every detection with every box of its frame.

    Args:
        counts: number of boxes in the frame of each detection, [N].
        first_box: first row of the boxes in the frame of each detection, [N].

    Returns:
        Rows of the detections and of the boxes, both [sum of counts], detections ascending.
    """
    detection = np.repeat(np.arange(len(counts)), counts)
    offset = np.cumsum(counts) - counts
    box = np.arange(len(detection)) + np.repeat(first_box - offset, counts)
    return detection, box


def _greedy(
    frames: np.ndarray,
    scores: np.ndarray,
    detections: np.ndarray,
    ious: np.ndarray,
    boxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Match greedily in every frame at once.

    All arguments are [P], one row a pair that may match. In the order of the rule (score, then
    IoU) the first pair of a frame is always a match; taking it removes the other pairs of its
    detection and of its box, which makes the next pair the first. As each round takes a box in
    every frame left, there are no more rounds than boxes in a frame.

    Returns:
        Rows of the matched detections and of their boxes.
    """
    order = np.lexsort((boxes, -ious, detections, -scores, frames))
    frames, detections, boxes = frames[order], detections[order], boxes[order]
    matched_detections = [np.empty(0, dtype=np.int64)]
    matched_boxes = [np.empty(0, dtype=np.int64)]
    while frames.size:
        first = np.flatnonzero(np.diff(frames, prepend=-1))
        matched_detections.append(detections[first])
        matched_boxes.append(boxes[first])
        winner = np.repeat(first, np.diff(first, append=len(frames)))
        left = (detections != detections[winner]) & (boxes != boxes[winner])
        frames, detections, boxes = frames[left], detections[left], boxes[left]
    return np.concatenate(matched_detections), np.concatenate(matched_boxes)
