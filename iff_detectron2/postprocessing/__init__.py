"""Post-processing over whole videos: Seq-NMS, Seq-NMS+ and tracks."""

from iff_detectron2.predictions.tracks import (
    VideoTracks,
    check_tracks_path,
    write_tracks,
    write_tracks_csv,
    write_tracks_json,
    write_tracks_mot,
)

from .sequence_nms import NO_TRACK, Rescored, SeqNMSOptions, seq_nms, seq_nms_arrays

__all__ = [
    "NO_TRACK",
    "Rescored",
    "SeqNMSOptions",
    "VideoTracks",
    "check_tracks_path",
    "seq_nms",
    "seq_nms_arrays",
    "write_tracks",
    "write_tracks_csv",
    "write_tracks_json",
    "write_tracks_mot",
]
