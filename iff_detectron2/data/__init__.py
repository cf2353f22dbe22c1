"""Video data for Detectron2's stock loaders."""

from .dataset_mapper import VIDDatasetMapper
from .datasets import register_from_specs, register_imagenet_vid, register_mot_challenge
from .frame_index import FrameIndex, NumberedFrames, build_frame_index, listed_frames
from .samplers import VideoInferenceSampler

__all__ = [
    "FrameIndex",
    "NumberedFrames",
    "VIDDatasetMapper",
    "VideoInferenceSampler",
    "build_frame_index",
    "listed_frames",
    "register_from_specs",
    "register_imagenet_vid",
    "register_mot_challenge",
]
