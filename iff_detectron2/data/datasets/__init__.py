"""Readers of video datasets; importing registers the built-in names."""

from .builtin import datasets_root, register_builtin_datasets
from .imagenet_vid import IMAGENET_VID_CLASSES, register_imagenet_vid
from .mot_challenge import MOT_CLASSES, register_mot_challenge
from .specs import register_from_specs

register_builtin_datasets()

__all__ = [
    "IMAGENET_VID_CLASSES",
    "MOT_CLASSES",
    "datasets_root",
    "register_from_specs",
    "register_imagenet_vid",
    "register_mot_challenge",
]
