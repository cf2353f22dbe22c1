"""Readers of video datasets; importing registers the built-in names."""

from .builtin import datasets_root, register_builtin_datasets
from .coco import (
    register_coco_frames,
    register_coco_vid,
    register_video_files,
    register_youtube_vis,
)
from .imagenet import IMAGENET_VID_CLASSES, register_imagenet_vid
from .mot import MOT_CLASSES, register_mot_challenge
from .specs import SPEC_FORMS, SpecForm, add_spec_form, register_from_specs

register_builtin_datasets()

__all__ = [
    "IMAGENET_VID_CLASSES",
    "MOT_CLASSES",
    "SPEC_FORMS",
    "SpecForm",
    "add_spec_form",
    "datasets_root",
    "register_coco_frames",
    "register_coco_vid",
    "register_from_specs",
    "register_imagenet_vid",
    "register_mot_challenge",
    "register_video_files",
    "register_youtube_vis",
]
