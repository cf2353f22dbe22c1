"""Is every frame there once, under its own number?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .report import Finding, finding

Record = Mapping[str, Any]
Videos = Mapping[str, Sequence[str]]


def check_identity(dicts: Sequence[Record], videos: Videos) -> list[Finding]:
    """Ids, frame numbers and the order of frames.

    Args:
        dicts: dataset dicts.
        videos: frame index, video id -> files of its frames.
    """
    frames = [(d["video_id"], d["frame_index"]) for d in dicts if "video_id" in d]
    stills = [d["file_name"] for d in dicts if "video_id" not in d]
    missing = [d["file_name"] for d in dicts if d.get("image_id") is None]
    return [
        *finding("problem", "ids", "images without image_id", missing),
        *finding(
            "problem", "ids", "image ids that occur twice", _twice(d.get("image_id") for d in dicts)
        ),
        *finding("problem", "ids", "frames that are listed twice", _twice(frames)),
        *finding("note", "ids", "stills that are listed more than once", _twice(stills)),
        *_check_numbers(dicts, videos),
        *finding("problem", "order", "videos whose frames are not in order", _unordered(frames)),
    ]


def by_video(dicts: Iterable[Record]) -> dict[str, list[Record]]:
    """Record of each video in the order of the dataset; stills are left out."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in dicts:
        if "video_id" in record:
            found[record["video_id"]].append(record)
    return found


def _twice(values: Iterable[object]) -> list[object]:
    seen: set[object] = set()
    repeated: dict[object, None] = {}
    for value in values:
        if value is not None and value in seen:
            repeated[value] = None
        seen.add(value)
    return list(repeated)


def _unordered(frames: Sequence[tuple[str, int]]) -> list[str]:
    last: dict[str, int] = {}
    found: dict[str, None] = {}
    for video, frame in frames:
        if frame < last.get(video, frame):
            found[video] = None
        last[video] = frame
    return list(found)


def _check_numbers(dicts: Sequence[Record], videos: Videos) -> Iterator[Finding]:
    """Do every record stand where the frame index says, and if not, is it the frame base?"""
    unknown, wrong, shifted, lengths = [], [], [], []
    for video, records in by_video(dicts).items():
        frames = videos.get(video)
        if frames is None:
            unknown.append(video)
            continue
        files = [record["file_name"] for record in records]
        numbers = [record["frame_index"] for record in records]
        if _at(frames, numbers) != files:
            from_1 = _at(frames, [number - 1 for number in numbers]) == files
            if from_1 and 0 not in numbers:
                shifted.append(video)
            else:
                wrong += [
                    f"frame {number} of {video}: {file}"
                    for number, file, found in zip(
                        numbers, files, _at(frames, numbers), strict=True
                    )
                    if file != found
                ]
        lengths += [video] * any(r.get("video_length", len(frames)) != len(frames) for r in records)
    yield from finding("problem", "frame index", "videos without frames in the index", unknown)
    yield from finding(
        "problem", "frame numbers", "videos whose frame_index counts from 1 instead of 0", shifted
    )
    yield from finding(
        "problem", "frame numbers", "records whose frame_index is not that of their file", wrong
    )
    yield from finding(
        "problem", "frame numbers", "videos whose video_length is not that of the index", lengths
    )


def _at(frames: Sequence[str], numbers: Sequence[int]) -> list[str]:
    return [frames[n] if 0 <= n < len(frames) else "" for n in numbers]
