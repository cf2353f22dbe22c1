"""Video data for Detectron2's stock loaders."""

from iff_detectron2.utils import needs_detectron2  # noqa: F401
from iff_detectron2.video.frames import read_frame

from .dataset_mapper import VIDDatasetMapper
from .datasets import (
    SpecForm,
    add_spec_form,
    recognize,
    register_burst,
    register_coco_frames,
    register_coco_vid,
    register_cvat_mot,
    register_cvat_video,
    register_from_specs,
    register_imagenet_vid,
    register_kitti_tracking,
    register_label_studio,
    register_mot_challenge,
    register_ua_detrac,
    register_via_csv,
    register_video_files,
    register_visdrone,
    register_yolo,
    register_youtube_vis,
)
from .samplers import VideoInferenceSampler
from .stream_loader import StreamLoader
from .training_stream import TrainingStream
from .video_index import NumberedFrames, VideoIndex, build_video_index, listed_frames

__all__ = [
    "NumberedFrames",
    "SpecForm",
    "StreamLoader",
    "TrainingStream",
    "VIDDatasetMapper",
    "VideoIndex",
    "VideoInferenceSampler",
    "add_spec_form",
    "build_video_index",
    "listed_frames",
    "read_frame",
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
