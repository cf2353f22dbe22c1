"""Is there anything in the videos that a temporal detector could learn from?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from iff_detectron2.data import read_frame
from iff_detectron2.data.datasets.frame_folder import numbers_in
from iff_detectron2.structures.boxes import inclusive_iou
from iff_detectron2.video.frames import VideoFileFrames, video_length

from .boxes import xyxy
from .identity import by_video
from .report import Finding, Level, finding

Record = Mapping[str, Any]
Videos = Mapping[str, Sequence[str]]

_PAIRS = 24  # frames and their successors that are looked at
_FEW = 50  # boxes; fewer say nothing about classes and tracks


def check_temporal(
    dicts: Sequence[Record], videos: Videos, class_names: Sequence[str]
) -> list[Finding]:
    """Find what makes training with reference frames pointless, or its labels wrong.

    Args:
        dicts: dataset dicts.
        videos: frame index, video id -> files of its frames.
        class_names: `thing_classes` of the dataset.
    """
    return [
        *_check_lengths(dicts, videos),
        *_check_classes(dicts, class_names),
        *_check_tracks(dicts),
        *_check_pictures(dicts, videos),
        *_check_numbers(dicts, videos),
    ]


def _check_lengths(dicts: Sequence[Record], videos: Videos) -> Iterator[Finding]:
    single = [video for video, frames in videos.items() if len(frames) == 1]
    if not single:
        return
    if len(single) == len(videos):
        text = (
            "videos of one frame, as many as images: there are no reference frames; are the "
            "frame numbers elsewhere in the names? See number= in docs/datasets.md"
        )
        yield from finding("problem", "videos", text, single)
    else:
        yield from finding("note", "videos", "videos of one frame", single)


def _check_classes(dicts: Sequence[Record], class_names: Sequence[str]) -> Iterator[Finding]:
    counts = Counter(a.get("category_id") for d in dicts for a in d.get("annotations", ()))
    if len(class_names) > 1 and len(counts) == 1 and counts.total() >= _FEW:
        only = next(iter(counts))
        name = class_names[only] if only in range(len(class_names)) else only
        text = f"all {counts.total()} boxes are of one of {len(class_names)} classes, {name!r}"
        yield Finding("problem", "classes", text)


def _check_tracks(dicts: Sequence[Record]) -> Iterator[Finding]:
    """Tracks that have one box each, or whose boxes lie apart from frame to frame."""
    boxes: dict[tuple[str, Any], dict[int, list[float]]] = defaultdict(dict)
    for video, records in by_video(dicts).items():
        for record in records:
            for annotation in record.get("annotations", ()):
                if annotation.get("track_id") is not None and "bbox" in annotation:
                    key = video, annotation["track_id"]
                    boxes[key][record["frame_index"]] = xyxy(annotation)
    if sum(map(len, boxes.values())) < _FEW:
        return
    if all(len(track) == 1 for track in boxes.values()) and len(dicts) > len(by_video(dicts)):
        text = f"every one of {len(boxes)} boxes has a track id of its own: tracks follow nothing"
        yield Finding("problem", "tracks", text)
        return
    pairs = [
        (track[frame], track[frame + 1])
        for track in boxes.values()
        for frame in track
        if frame + 1 in track
    ]
    if len(pairs) < _FEW:
        return
    before, after = np.array(pairs).transpose(1, 0, 2)
    apart = int((inclusive_iou(before, after) == 0).sum())
    if 2 * apart > len(pairs):
        text = (
            f"{apart} of {len(pairs)} boxes do not touch their track's box in the next frame: "
            "does one track id stand for several objects?"
        )
        yield Finding("problem", "tracks", text)


def _look_at(name: str) -> np.ndarray | None:
    try:
        return read_frame(name, "BGR")
    except (OSError, ValueError, SyntaxError):
        return None  # told by the check of files


def _check_pictures(dicts: Sequence[Record], videos: Videos) -> Iterator[Finding]:
    """Constant images, and frames that are equal to the next; some of all are looked at."""
    candidates = [
        (record["file_name"], videos[record["video_id"]][record["frame_index"] + 1])
        for record in dicts
        if 0 <= record.get("frame_index", 0) < len(videos.get(record.get("video_id", ""), ())) - 1
    ]
    step = max(1, len(candidates) // _PAIRS)
    constant, equal, compared = [], [], 0
    for name, successor in candidates[::step][:_PAIRS]:
        image, following = _look_at(name), _look_at(successor)
        if image is None or following is None:
            continue
        compared += 1
        if image.min() == image.max():
            constant.append(name)
        elif np.array_equal(image, following):
            equal.append(name)
    seen = f"of {compared} looked at"
    yield from finding("problem", "pictures", f"labelled images of one colour, {seen}", constant)
    level: Level = "problem" if 2 * len(equal) > compared else "note"
    text = f"frames whose next frame is the same picture, {seen}"
    yield from finding(level, "pictures", text, equal)


def _check_numbers(dicts: Sequence[Record], videos: Videos) -> Iterator[Finding]:
    """Frame numbers of labels against those in file names, and lengths against video files."""
    shifted, lengths = [], []
    for video, records in by_video(dicts).items():
        numbered = [r for r in records if r.get("frame_number") is not None]
        in_names = numbers_in([r["file_name"].rpartition("/")[2] for r in numbered])
        if in_names and len(numbered) > 1 and not isinstance(videos.get(video), VideoFileFrames):
            off = {r["frame_number"] - n for r, n in zip(numbered, in_names, strict=True)}
            if len(off) > 1 and not _every_nth(numbered, in_names):
                shifted.append(video)
    for video, frames in videos.items():
        if isinstance(frames, VideoFileFrames):
            try:
                length = video_length(frames.path)
            except (OSError, ValueError):
                continue  # told by the check of files
            if length != len(frames):
                lengths.append(f"{video}: {len(frames)}, but {frames.path} has {length}")
    text = "videos whose frame numbers are out of step with those in the names of their files"
    yield from finding("problem", "frame numbers", text, shifted)
    text = "videos whose number of frames is not that of their file"
    yield from finding("problem", "frame numbers", text, lengths)


def _every_nth(records: Sequence[Record], in_names: Sequence[int]) -> bool:
    """Whether labels count the frames that they list and names those of the film (0, 30, 60)."""
    steps = {
        (b["frame_number"] - a["frame_number"], n - m)
        for a, b, m, n in zip(records, records[1:], in_names, in_names[1:], strict=False)
    }
    return 0 not in {m for m, _ in steps} and len({n / m for m, n in steps}) == 1
