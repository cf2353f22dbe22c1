"""Readers of video datasets; importing registers the built-in names."""

from iff_detectron2.data.datasets.coco.coco_frames import register_coco_frames
from iff_detectron2.data.datasets.coco.coco_vid import register_coco_vid
from iff_detectron2.data.datasets.coco.youtube_vis import register_youtube_vis
from iff_detectron2.data.datasets.imagenet.imagenet_vid import (
    IMAGENET_VID_CLASSES,
    register_imagenet_vid,
)
from iff_detectron2.data.datasets.mot.mot_challenge import MOT_CLASSES, register_mot_challenge

from .builtin import datasets_root, register_builtin_datasets
from .specs import SPEC_FORMS, SpecForm, add_spec_form, register_from_specs
from .video_files import register_video_files

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
