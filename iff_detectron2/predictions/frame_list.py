"""The frames that detections are of: found by what a file says of them, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What a file may say of a frame; `frame_number` is the source's own, `frame_index` counts from 0.
FRAME_KEYS = ("image_id", "video_id", "frame_index", "frame_number")

Frame = Mapping[str, Any]


def frame_of(record: Frame) -> dict[str, Any]:
    """Return what a file says of the frame of a dataset dict or of a saved detection."""
    return {key: record[key] for key in FRAME_KEYS if record.get(key) is not None}


def place_of(frame: Frame) -> tuple[str, int] | None:
    """Return video and frame index, None where they are not known."""
    video_id, index = frame.get("video_id"), frame.get("frame_index")
    return None if video_id is None or index is None else (str(video_id), index)


def number_of(frame: Frame) -> int:
    """Return the frame number: the source's own, else the frame index."""
    number = frame.get("frame_number")
    return frame["frame_index"] if number is None else number


def rows_of_videos(frames: Sequence[Frame]) -> dict[str, list[int]]:
    """Return the rows of the frames of each video, videos in the order of their first frame."""
    rows: dict[str, list[int]] = {}
    for row, frame in enumerate(frames):
        rows.setdefault(str(frame["video_id"]), []).append(row)
    return rows


class FrameRows:
    """Finds the frame row of a saved detection by its image id."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._row_of_image = {frame["image_id"]: row for row, frame in enumerate(frames)}

    def find(self, saved: Frame) -> tuple[int, str]:
        """Return the frame row and an empty text, or -1 and why the dataset has no such frame."""
        row = self._row_of_image.get(saved["image_id"], -1)
        if row < 0:
            first = self._frames[0]["image_id"] if self._frames else None
            return -1, (
                f"this frame is not in the dataset, whose {len(self._frames)} frames start with "
                f"image_id {first!r}; are the predictions of another one?"
            )
        said, known = place_of(saved), place_of(self._frames[row])
        if said is not None and known is not None and said != known:
            return -1, (
                f"the file says that this is frame {said[1]} of video {said[0]!r}, the dataset "
                f"frame {known[1]} of {known[0]!r}; are the predictions of another one?"
            )
        return row, ""


class FrameOrder:
    """Looks whether videos follow one another, and the frames of each ascend."""

    def __init__(self) -> None:
        self._finished: set[str] = set()
        self._video_id: str | None = None
        self._frame_index = -1

    def problem(self, video_id: str, frame_index: int) -> str:
        """Take the next frame; return what is wrong with its place, empty if nothing is."""
        problem = ""
        if video_id != self._video_id:
            if self._video_id is not None:
                self._finished.add(self._video_id)
            if video_id in self._finished:
                problem = f"video {video_id!r} goes on after another video"
            self._video_id = video_id
        elif frame_index <= self._frame_index:
            problem = f"frame {frame_index} of video {video_id!r} comes after {self._frame_index}"
        self._frame_index = frame_index
        return problem and f"frames are out of order: {problem}; sort the file by video and frame"
