"""Do track ids follow one object each, and how much do the objects move?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from iff_detectron2.structures.boxes import MOTION_CATEGORIES, motion_iou

from .boxes import xyxy
from .identity import by_video
from .report import Finding, finding

Record = Mapping[str, Any]
Track = tuple[str, Any]  # video id, track id


def check_tracks(dicts: Sequence[Record]) -> tuple[list[Finding], dict[str, Any]]:
    """Track ids, gaps in tracks and motion categories.

    A gap is a frame that is listed, in which a track is missing that the dataset has before and
    after it. It may be right: objects leave the picture and come back.

    Returns:
        The findings, and what is to be told of tracks and motion.
    """
    videos = by_video(dicts)
    boxes = [
        (record, annotation)
        for records in videos.values()
        for record in records
        for annotation in record.get("annotations", ())
        if {"bbox", "bbox_mode"} <= annotation.keys()  # others are told of already
    ]
    if not boxes:
        return [], {}
    untracked = [r["file_name"] for r, a in boxes if a.get("track_id") is None]
    if len(untracked) == len(boxes):
        text = "no box has a track id: no motion categories"
        return [Finding("note", "tracks", text)], {}
    tracks: dict[Track, list[tuple[int, int]]] = defaultdict(list)
    for record, annotation in boxes:
        if annotation.get("track_id") is not None:
            key = record["video_id"], annotation["track_id"]
            tracks[key].append((record["frame_index"], annotation.get("category_id", -1)))
    twice, classes, gaps, longest = [], [], [], 0
    for (video, track), places in tracks.items():
        frames = [frame for frame, _ in places]
        name = f"track {track} of {video}"
        if len(set(frames)) < len(frames):
            twice.append(f"{name}, frame {next(f for f in frames if frames.count(f) > 1)}")
        if len({category for _, category in places}) > 1:
            classes.append(name)
        between = sorted(
            {
                record["frame_index"]
                for record in videos[video]
                if min(frames) < record["frame_index"] < max(frames)
            }
            - set(frames)
        )
        if between:
            gaps.append(f"{name}: {len(between)} frames, first {between[0]}")
            longest = max(longest, len(between))
    findings = [
        *finding("problem", "tracks", "boxes without track id, though others have one", untracked),
        *finding("problem", "tracks", "tracks with two boxes in a frame", twice),
        *finding("problem", "tracks", "tracks that change their class", classes),
        *finding("note", "tracks", f"tracks with gaps (at most {longest} listed frames)", gaps),
    ]
    summary: dict[str, Any] = {"tracks": len(tracks)}
    if not untracked and not twice:
        summary["motion_percent"] = motion_shares(boxes)
    return findings, summary


def motion_shares(boxes: Sequence[tuple[Record, Record]]) -> dict[str, float]:
    """Percent of the boxes in each of FGFA's motion categories.

    A value on a border counts in the slower category, so that the shares add up to 100.

    Args:
        boxes: record and annotation of each box, all with track ids.
    """
    numbers: dict[object, int] = {}
    motion = motion_iou(
        np.array([xyxy(annotation) for _, annotation in boxes]),
        np.array([numbers.setdefault(("video", r["video_id"]), len(numbers)) for r, _ in boxes]),
        np.array([record["frame_index"] for record, _ in boxes]),
        np.array([numbers.setdefault(("track", a["track_id"]), len(numbers)) for _, a in boxes]),
    )
    shares, rest = {}, np.ones(len(motion), dtype=bool)
    for category, (low, high) in MOTION_CATEGORIES.items():
        inside = rest & (motion >= low) & (motion <= high)
        shares[category] = 100.0 * float(inside.mean())
        rest &= ~inside
    return shares
