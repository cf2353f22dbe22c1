"""What ImageNet VID and its lists count, to tell a complete copy from a damaged one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KnownFigures:
    """Counts of a released list.

    Attributes:
        lines: lines of the list.
        images: entries of the dataset; the frames of all videos for the list of VID val.
        files: different images among them.
        videos: videos, 0 for stills.
        boxes: boxes of each class, empty where they are not known.
        motion_shares: percent of the boxes that are slow, medium and fast, empty where not known.
    """

    lines: int
    images: int
    files: int
    videos: int = 0
    boxes: Mapping[str, int] = field(default_factory=dict)
    motion_shares: Mapping[str, float] = field(default_factory=dict)


_VAL_BOXES = {
    "airplane": 26387,
    "antelope": 7968,
    "bear": 9780,
    "bicycle": 8854,
    "bird": 9862,
    "bus": 6313,
    "car": 26690,
    "cattle": 11365,
    "dog": 20237,
    "domestic_cat": 11629,
    "elephant": 11934,
    "fox": 9092,
    "giant_panda": 7593,
    "hamster": 5476,
    "horse": 7939,
    "lion": 2840,
    "lizard": 5972,
    "monkey": 10654,
    "motorcycle": 1139,
    "rabbit": 5898,
    "red_panda": 1149,
    "sheep": 4405,
    "snake": 6393,
    "squirrel": 12088,
    "tiger": 2614,
    "train": 13095,
    "turtle": 5761,
    "watercraft": 6089,
    "whale": 7379,
    "zebra": 6910,
}

# List in ImageSets -> its figures; the motion shares are those that FGFA reports.
IMAGENET_FIGURES: Mapping[str, KnownFigures] = {
    "VID_train_15frames": KnownFigures(lines=57834, images=57834, files=57834, videos=3862),
    "VID_val_videos": KnownFigures(
        lines=555,
        images=176126,
        files=176126,
        videos=555,
        boxes=_VAL_BOXES,
        motion_shares={"slow": 37.9, "medium": 35.9, "fast": 26.2},
    ),
    "DET_train_30classes": KnownFigures(lines=53639, images=53639, files=53237),
}
