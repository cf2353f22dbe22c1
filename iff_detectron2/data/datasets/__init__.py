"""Readers of video datasets; importing registers the built-in names."""

from .builtin import datasets_root, register_builtin_datasets
from .coco import (
    register_burst,
    register_coco_frames,
    register_coco_vid,
    register_video_files,
    register_youtube_vis,
)
from .imagenet import IMAGENET_VID_CLASSES, register_imagenet_vid
from .mot import (
    MOT_CLASSES,
    register_cvat_mot,
    register_kitti_tracking,
    register_mot_challenge,
    register_ua_detrac,
    register_visdrone,
)
from .recognition import recognize
from .specs import SPEC_FORMS, SpecForm, add_spec_form, register_from_specs
from .tools import (
    register_cvat_video,
    register_label_studio,
    register_via_csv,
    register_yolo,
)

register_builtin_datasets()

__all__ = [
    "IMAGENET_VID_CLASSES",
    "MOT_CLASSES",
    "SPEC_FORMS",
    "SpecForm",
    "add_spec_form",
    "datasets_root",
    "recognize",
    "register_burst",
    "register_coco_frames",
    "register_coco_vid",
    "register_cvat_mot",
    "register_cvat_video",
    "register_from_specs",
    "register_imagenet_vid",
    "register_kitti_tracking",
    "register_label_studio",
    "register_mot_challenge",
    "register_ua_detrac",
    "register_via_csv",
    "register_video_files",
    "register_visdrone",
    "register_yolo",
    "register_youtube_vis",
]
