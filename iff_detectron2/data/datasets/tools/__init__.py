"""Exports of labelling tools: CVAT, Label Studio, VIA and what writes YOLO's text files."""

from .cvat import register_cvat_video
from .label_studio import register_label_studio
from .via import register_via_csv
from .yolo import register_yolo

__all__ = [
    "register_cvat_video",
    "register_label_studio",
    "register_via_csv",
    "register_yolo",
]
