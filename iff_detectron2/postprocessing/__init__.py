"""Post-processing over whole videos: Seq-NMS, Seq-NMS+ and tracks."""

from iff_detectron2.predictions import check_tracks_path, write_tracks
from iff_detectron2.structures import NO_TRACK

from .sequence_nms import SeqNMSOptions, rescore_detections, seq_nms

__all__ = [
    "NO_TRACK",
    "SeqNMSOptions",
    "check_tracks_path",
    "rescore_detections",
    "seq_nms",
    "write_tracks",
]
