"""Video data for Detectron2's stock loaders."""

from iff_detectron2.video.frames import read_frame

from .dataset_mapper import VIDDatasetMapper
from .datasets import (
    SpecForm,
    add_spec_form,
    register_coco_frames,
    register_coco_vid,
    register_from_specs,
    register_imagenet_vid,
    register_mot_challenge,
    register_video_files,
    register_youtube_vis,
)
from .samplers import VideoInferenceSampler
from .training_stream import TrainingStream
from .video_index import NumberedFrames, VideoIndex, build_video_index, listed_frames

__all__ = [
    "NumberedFrames",
    "SpecForm",
    "TrainingStream",
    "VIDDatasetMapper",
    "VideoIndex",
    "VideoInferenceSampler",
    "add_spec_form",
    "build_video_index",
    "listed_frames",
    "read_frame",
    "register_coco_frames",
    "register_coco_vid",
    "register_from_specs",
    "register_imagenet_vid",
    "register_mot_challenge",
    "register_video_files",
    "register_youtube_vis",
]
