"""Video data for Detectron2's stock loaders."""

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
from .frame_index import FrameIndex, NumberedFrames, build_frame_index, listed_frames
from .samplers import VideoInferenceSampler
from .video_frames import read_frame

__all__ = [
    "FrameIndex",
    "NumberedFrames",
    "SpecForm",
    "VIDDatasetMapper",
    "VideoInferenceSampler",
    "add_spec_form",
    "build_frame_index",
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
