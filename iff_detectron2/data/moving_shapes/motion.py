"""Smooth trajectories whose speed is solved from a wanted motion IoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOTION_WINDOW = 10  # frames to each side that the motion IoU looks at
SHARES = {"slow": 0.38, "medium": 0.36, "fast": 0.26}
# Wanted motion IoU of each category, away from the borders at 0.7 and 0.9.
_TARGETS = {"slow": (0.925, 0.98), "medium": (0.77, 0.875), "fast": (0.35, 0.64)}


def wanted_motion_iou(quantile: float) -> float:
    """Turn a number in [0, 1) into a motion IoU, with `SHARES` of the categories."""
    start = 0.0
    for name, share in SHARES.items():
        if quantile < start + share:
            low, high = _TARGETS[name]
            return low + (high - low) * (quantile - start) / share
        start += share
    return _TARGETS["fast"][1]


def mean_motion_iou(boxes: np.ndarray, window: int = MOTION_WINDOW) -> np.ndarray:
    """Mean motion IoU of box tracks.

    Args:
        boxes: (..., frames, 4) inclusive x1, y1, x2, y2.
        window: frames to each side.

    Returns:
        (...) mean over the frames of the mean IoU with the other frames of the window; 1 for
        one frame.
    """
    num_frames = boxes.shape[-2]
    total = np.zeros(boxes.shape[:-1])
    count = np.zeros(num_frames)
    area = np.prod(boxes[..., 2:] - boxes[..., :2] + 1, axis=-1)
    for step in range(1, min(window, num_frames - 1) + 1):
        first, second = boxes[..., :-step, :], boxes[..., step:, :]
        low = np.maximum(first[..., :2], second[..., :2])
        high = np.minimum(first[..., 2:], second[..., 2:])
        inter = np.prod(np.maximum(high - low + 1, 0), axis=-1)
        iou = inter / (area[..., :-step] + area[..., step:] - inter)
        total[..., :-step] += iou
        total[..., step:] += iou
        count[:-step] += 1
        count[step:] += 1
    if num_frames == 1:
        return np.ones(boxes.shape[:-2])
    return (total / count).mean(axis=-1)


@dataclass
class Trajectory:
    """Where an object is in each frame.

    Attributes:
        centers: (frames, 2) x and y in pixels.
        angles: (frames,) clockwise turn in radians.
        scales: (frames,) factor of the object's size.
    """

    centers: np.ndarray
    angles: np.ndarray
    scales: np.ndarray

    def velocity(self, frame: int) -> np.ndarray:
        """Motion in pixels a frame, by central difference."""
        before, after = max(frame - 1, 0), min(frame + 1, len(self.centers) - 1)
        return (self.centers[after] - self.centers[before]) / max(after - before, 1)


def extents(points: np.ndarray, half: np.ndarray, path: Trajectory) -> np.ndarray:
    """Boxes (..., frames, 4) around outline points drawn with half sides `half` on a path.

    Args:
        points: [K, 2] outline, in half sides.
        half: [2] half width and half height in pixels.
        path: where the centre is in each frame, how the object is turned, and how large.
    """
    x, y = (points * half).T
    cos, sin = np.cos(path.angles)[..., None], np.sin(path.angles)[..., None]
    drawn = np.stack([x * cos - y * sin, x * sin + y * cos], axis=-2) * path.scales[..., None, None]
    low, high = drawn.min(axis=-1) + path.centers, drawn.max(axis=-1) + path.centers
    return np.concatenate([low, high], axis=-1)


def _fold(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Reflect coordinates at the walls `low` and `high`."""
    span = np.maximum(high - low, 1e-6)
    phase = np.mod(values - low, 2 * span)
    return low + np.minimum(phase, 2 * span - phase)


def plan_trajectory(
    rng: np.random.Generator,
    *,
    points: np.ndarray,
    half: np.ndarray,
    start: np.ndarray,
    size: tuple[int, int],
    num_frames: int,
    motion_iou: float,
    crossing: bool,
) -> Trajectory:
    """Plan a gently curving path with a wanted motion IoU.

    Position, turn and size are functions of the way gone, so that one number, the speed, decides
    the motion IoU; it is the best of a fine geometric grid.

    Args:
        rng: source of randomness.
        points: outline points in object coordinates.
        half: half width and half height of the object in pixels.
        start: first centre, or with `crossing` the centre somewhere on the way.
        size: width and height of the frame.
        num_frames: length of the video.
        motion_iou: wanted mean motion IoU of the track.
        crossing: move through and out of the frame in place of bouncing off its walls.

    Returns:
        The trajectory; its arrays are indexed by frame.
    """
    diameter = 2 * float(half.max())
    speeds = diameter * np.geomspace(0.0005, 0.25, 64)
    way = speeds[:, None] * np.arange(num_frames)

    heading, bend, length, phase = rng.uniform((0, 0.2, 120, 0), (2 * np.pi, 0.7, 260, 2 * np.pi))
    knots = np.arange(0, way[-1, -1] + 2)
    directions = heading + bend * np.sin(2 * np.pi * knots / length + phase)
    x = np.interp(way, knots, np.cumsum(np.cos(directions)) - np.cos(directions[0]))
    y = np.interp(way, knots, np.cumsum(np.sin(directions)) - np.sin(directions[0]))
    offsets = np.stack([x, y], axis=-1)

    turn, turn_phase, grow_phase = rng.uniform((-0.35, 0, 0), (0.35, 2 * np.pi, 2 * np.pi))
    angles = turn + 0.25 * np.sin(2 * np.pi * way / (2.5 * diameter) + turn_phase)
    scales = 1 + 0.12 * np.sin(2 * np.pi * way / (3 * diameter) + grow_phase)

    if crossing:
        anchor = int(rng.uniform(0.15, 0.5) * num_frames)
        if rng.random() < 0.4:  # rather come in than leave
            anchor = num_frames - 1 - anchor
        centers = start + offsets - offsets[:, anchor : anchor + 1]
    else:
        # A quarter of the object may poke out of the frame at the turning points.
        frame = np.asarray(size, np.float64)
        low = np.minimum(half * 0.7, frame / 2 - 1)
        centers = _fold(start + offsets, low, frame - 1 - low)
    paths = Trajectory(centers, angles, scales)
    boxes = np.round(extents(points, half, paths))
    if not crossing:
        limit = np.asarray([*size, *size], np.float64) - 1
        boxes = np.clip(boxes, 0, limit)
    best = int(np.argmin(np.abs(mean_motion_iou(boxes) - motion_iou)))
    return Trajectory(centers[best], angles[best], scales[best])
