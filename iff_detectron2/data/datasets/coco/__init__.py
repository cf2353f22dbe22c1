"""COCO-style JSON with videos: COCO-VID, video files, frames as COCO images, YouTube-VIS,
BURST."""

from .burst import register_burst
from .frames import register_coco_frames
from .vid import register_coco_vid
from .video_files import register_video_files
from .youtube_vis import register_youtube_vis

__all__ = [
    "register_burst",
    "register_coco_frames",
    "register_coco_vid",
    "register_video_files",
    "register_youtube_vis",
]
