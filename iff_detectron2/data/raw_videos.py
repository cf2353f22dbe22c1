"""Videos without labels, to learn from: every frame is a key frame, and there is no annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from iff_detectron2.video.frames import VIDEO_SUFFIXES
from iff_detectron2.video.images import IMAGE_SUFFIXES, frame_files

from .datasets.frame_source import frames_at
from .video_index import VideoIndex

# The smallest part of a video from which pairs of frames can be drawn.
MIN_FRAMES = 2


class RawVideos(NamedTuple):
    """Frames to train on and frames to judge by.

    Attributes:
        train: dataset dicts of the first frames of each video.
        held_out: those of its last frames.
        frame_index: files of the frames; each part of a video is a video of its own.
    """

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    frame_index: VideoIndex


def find_videos(inputs: Sequence[str | Path]) -> dict[str, Sequence[str]]:
    """List the frames of video files and of folders.

    Args:
        inputs: video files, folders of images (one video each), or folders of these.

    Returns:
        Names of the frames in order, by the path of the video.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a file or folder holds no video.
        OSError: a video cannot be decoded.
    """
    videos: dict[str, Sequence[str]] = {}
    for given in inputs:
        path = Path(given)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; name a video file or a folder")
        found = _videos_below(path)
        if not found:
            raise ValueError(
                f"{path} holds no video: files ending in {', '.join(VIDEO_SUFFIXES)}, or folders "
                f"of images ending in {', '.join(IMAGE_SUFFIXES)} are read"
            )
        videos.update(found)
    return videos


def _videos_below(path: Path, depth: int = 2) -> dict[str, Sequence[str]]:
    is_video = path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES
    if is_video or (path.is_dir() and frame_files(path)):
        return {str(path): frames_at(path, str(path)).files}
    found: dict[str, Sequence[str]] = {}
    if path.is_dir() and depth:
        for entry in sorted(path.iterdir()):
            if not entry.name.startswith("."):
                found.update(_videos_below(entry, depth - 1))
    return found


def read_raw_videos(inputs: Sequence[str | Path], *, held_out: float = 0.2) -> RawVideos:
    """Make dataset dicts of raw videos, the end of each held out.

    The end, and not single frames, since frames next to each other show the same.

    Args:
        inputs: as for `find_videos`.
        held_out: share of each video, in (0, 1).

    Raises:
        FileNotFoundError, OSError, ValueError: as `find_videos`; also if `held_out` is no share or
            no video is long enough.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"the share that is held out must be between 0 and 1, got {held_out}")
    index: dict[str, Sequence[str]] = {}
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for name, frames in find_videos(inputs).items():
        cut = len(frames) - max(round(held_out * len(frames)), MIN_FRAMES)
        if cut < MIN_FRAMES:
            continue
        for dicts, part, chosen in zip(
            parts, ("train", "held_out"), (frames[:cut], frames[cut:]), strict=True
        ):
            video_id = f"{name}:{part}"
            index[video_id] = chosen
            dicts += [
                {
                    "file_name": file,
                    "image_id": f"{video_id}:{t}",
                    "video_id": video_id,
                    "frame_index": t,
                    "video_length": len(chosen),
                }
                for t, file in enumerate(chosen)
            ]
    if not index:
        raise ValueError(
            f"no video of {', '.join(map(str, inputs))} has the {2 * MIN_FRAMES} frames that "
            "training and judging need"
        )
    return RawVideos(*parts, VideoIndex(index))
