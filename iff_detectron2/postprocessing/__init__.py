"""Post-processing over whole videos: Seq-NMS, Seq-NMS+ and tracks."""

from iff_detectron2.predictions.tracks import (
    VideoTracks,
    check_tracks_path,
    write_tracks,
    write_tracks_csv,
    write_tracks_json,
    write_tracks_mot,
)
from iff_detectron2.structures import NO_TRACK

from .sequence_nms import SeqNMSOptions, rescore_detections, seq_nms

__all__ = [
    "NO_TRACK",
    "SeqNMSOptions",
    "VideoTracks",
    "check_tracks_path",
    "rescore_detections",
    "seq_nms",
    "write_tracks",
    "write_tracks_csv",
    "write_tracks_json",
    "write_tracks_mot",
]
