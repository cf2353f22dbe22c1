"""MOTChallenge and its kin: a file of boxes per sequence, beside a folder of frames."""

from .challenge import MOT_CLASSES, register_mot_challenge
from .cvat_mot import register_cvat_mot
from .kitti import KITTI_CLASSES, register_kitti_tracking
from .ua_detrac import DETRAC_CLASSES, register_ua_detrac
from .visdrone import VISDRONE_CLASSES, register_visdrone

__all__ = [
    "DETRAC_CLASSES",
    "KITTI_CLASSES",
    "MOT_CLASSES",
    "VISDRONE_CLASSES",
    "register_cvat_mot",
    "register_kitti_tracking",
    "register_mot_challenge",
    "register_ua_detrac",
    "register_visdrone",
]
