"""How boxes are saved: the readers and the writers of every format, and nothing else knows it."""

from .frame_list import FRAME_KEYS, frame_of
from .readers import (
    collect_detections,
    iterate_videos,
    read_predictions,
    read_predictions_json,
    read_predictions_text,
)
from .tracks import check_tracks_path, count_tracks, on_tracks, write_tracks
from .writers import (
    open_predictions_json,
    write_predictions_csv,
    write_predictions_json,
    write_predictions_mot,
    write_predictions_text,
)

__all__ = [
    "FRAME_KEYS",
    "check_tracks_path",
    "collect_detections",
    "count_tracks",
    "frame_of",
    "iterate_videos",
    "on_tracks",
    "open_predictions_json",
    "read_predictions",
    "read_predictions_json",
    "read_predictions_text",
    "write_predictions_csv",
    "write_predictions_json",
    "write_predictions_mot",
    "write_predictions_text",
    "write_tracks",
]
