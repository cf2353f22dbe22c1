"""Random videos for Seq-NMS: tracks on a coarse grid, so that ties of every kind happen."""

from __future__ import annotations

import numpy as np

from iff_detectron2.structures import Detections


def random_video(seed, num_frames=8, num_tracks=4, num_classes=2, clutter=3, grid=4, levels=6):
    """Return detections of tracks that move on a grid, with duplicates, gaps, clutter and equal
    scores.

    Args:
        seed: of the generator.
        num_frames: frames; some stay empty.
        num_tracks: objects, each with up to three boxes a frame.
        num_classes: classes.
        clutter: boxes a frame that belong to no object.
        grid: pixels that boxes move by.
        levels: number of different scores; 0 makes them all different.
    """
    generator = np.random.default_rng(seed)

    def score():
        if levels:
            return float(generator.integers(0, levels + 1)) / levels
        return float(generator.random(dtype=np.float32))

    empty = set(np.flatnonzero(generator.random(num_frames) < 0.15).tolist())
    detections = []
    for _ in range(num_tracks):
        class_id = int(generator.integers(num_classes))
        corner = grid * generator.integers(0, 12, size=2)
        size = grid * generator.integers(2, 8, size=2)
        for frame in range(num_frames):
            corner = corner + grid * generator.integers(-1, 2, size=2)
            for _ in range(generator.integers(0, 4)):
                moved = corner + grid * generator.integers(-1, 2, size=2)
                wide = np.maximum(size + grid * generator.integers(-1, 2, size=2), 2 * grid)
                box = (*moved.tolist(), *(moved + wide - 1).tolist())
                detections.append((frame, class_id, score(), box))
    for frame in range(num_frames):
        for _ in range(clutter):
            corner, size = (grid * generator.integers(2, 10, size=2) for _ in range(2))
            box = (*corner.tolist(), *(corner + size - 1).tolist())
            detections.append((frame, int(generator.integers(num_classes)), score(), box))
    kept = [d for d in detections if d[0] not in empty]
    generator.shuffle(kept)
    return [
        {"frame": int(frame), "class": class_id, "score": value, "box": tuple(map(float, box))}
        for frame, class_id, value, box in kept
    ]


def to_detections(detections):
    """Columns of detections of one video."""
    return Detections(
        np.array([d["frame"] for d in detections], dtype=np.int64),
        np.array([d["box"] for d in detections], dtype=np.float64).reshape(-1, 4),
        np.array([d["score"] for d in detections], dtype=np.float64),
        np.array([d["class"] for d in detections], dtype=np.int64),
    )
