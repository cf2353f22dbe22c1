"""FGFA's weight of a false positive in a motion range (vid_protocol, Evaluation 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iff_detectron2.structures import GroundTruth


class MotionRangeWeights:
    """Weighs unmatched detections in several motion ranges.

    A false alarm has no motion of its own. FGFA gives it to the range of the box it is nearest
    to, whatever that box's class and whether it was taken or not.
    """

    def __init__(self, ground_truth: GroundTruth, ranges: Sequence[tuple[float, float]]) -> None:
        """Set up the ranges.

        Args:
            ground_truth: boxes with motion IoUs.
            ranges: (lowest, highest) motion IoU of each of R ranges, both inclusive.

        Raises:
            ValueError: if the motion IoUs are not known.
        """
        motion = ground_truth.motion_iou
        if motion is None:
            raise ValueError(f"Motion ranges need motion IoUs: {ground_truth.motion_note}")
        counts = np.bincount(ground_truth.frames, minlength=ground_truth.num_frames)
        num_empty = int((counts == 0).sum())
        self._inside = [(motion >= low) & (motion <= high) for low, high in ranges]
        # Share of all motion values in the range, each empty frame being a placeholder of 0.
        self._empty_weights = [
            (inside.sum() + (num_empty if low <= 0 <= high else 0))
            / max(len(motion) + num_empty, 1)
            for inside, (low, high) in zip(self._inside, ranges, strict=True)
        ]
        self._shares_outside = [
            np.bincount(ground_truth.frames[~inside], minlength=ground_truth.num_frames)
            / np.maximum(counts, 1)
            for inside in self._inside
        ]

    def __call__(
        self, frames: np.ndarray, pair_counts: np.ndarray, pair_boxes: np.ndarray, iou: np.ndarray
    ) -> np.ndarray:
        """Weigh detections as if none was matched.

        Args:
            frames: frame row of each detection, [N].
            pair_counts: number of boxes in the frame of each detection, [N].
            pair_boxes: box row of every pair of a detection and a box of its frame, detections
                ascending, [P].
            iou: IoU of every pair, [P].

        Returns:
            Shape [R, N]: 1 if the nearest box is in the range, 0 if it is out of it; if the best
            IoUs with either kind are equal, the share of the frame's boxes out of the range; in
            a frame without boxes the range's empty weight.
        """
        weights = np.empty((len(self._inside), len(frames)))
        has_boxes = pair_counts > 0
        first_pair = (np.cumsum(pair_counts) - pair_counts)[has_boxes]
        for row, inside, empty_weight, shares in zip(
            weights, self._inside, self._empty_weights, self._shares_outside, strict=True
        ):
            row[:] = empty_weight
            if first_pair.size:
                # -1 stands for "no such box" and is below every IoU, as in FGFA.
                pair_inside = inside[pair_boxes]
                best_inside = np.maximum.reduceat(np.where(pair_inside, iou, -1), first_pair)
                best_outside = np.maximum.reduceat(np.where(pair_inside, -1, iou), first_pair)
                row[has_boxes] = np.where(
                    best_inside == best_outside,
                    shares[frames[has_boxes]],
                    best_inside > best_outside,
                )
        return weights
