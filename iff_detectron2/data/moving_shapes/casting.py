"""Which objects play in which video of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .classes import MOVING_SHAPES_CLASSES
from .motion import SHARES, wanted_motion_iou
from .options import MovingShapesOptions

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Role:
    """One object of a video.

    Attributes:
        category_id: index into `MOVING_SHAPES_CLASSES`.
        motion_iou: wanted mean motion IoU of the track.
        crossing: move through the frame and out of it in place of staying inside.
    """

    category_id: int
    motion_iou: float
    crossing: bool


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """Return an independent random stream for each key, whatever the order in which they are
    used."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def video_folder(split: str, index: int) -> str:
    """Folder of a video below `Data/VID` and `Annotations/VID`."""
    return f"{split}/moving_shapes_{split}_{index:08d}"


def cast_split(options: MovingShapesOptions, split: str) -> list[list[Role]]:
    """Deal out classes and speeds evenly over the videos of a split.

    The last video of a split of four or more shows a lone, fast object that leaves, so that the
    set has frames without objects.
    """
    num_videos = options.num_videos(split)
    if num_videos == 0:
        return []
    rng = random_stream(options.seed, SPLITS.index(split))
    counts = rng.permutation(np.arange(num_videos) % options.max_objects + 1)
    has_leaver = num_videos >= 4
    if has_leaver:
        counts[-1] = 1
    total = int(counts.sum())
    categories = rng.permutation(np.arange(total) % len(MOVING_SHAPES_CLASSES))
    quantiles = rng.permutation((np.arange(total) + rng.random(total)) / total)
    crosses = (rng.random(total) < 0.15) & (quantiles >= SHARES["slow"])
    if has_leaver:
        quantiles[-1], crosses[-1] = 1 - SHARES["fast"], True
    roles = [
        Role(int(category), wanted_motion_iou(float(quantile)), bool(cross))
        for category, quantile, cross in zip(categories, quantiles, crosses, strict=True)
    ]
    ends = np.cumsum(counts)
    return [roles[end - count : end] for end, count in zip(ends, counts, strict=True)]
