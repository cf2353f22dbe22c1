"""The frames of one video, from a video file or a folder of images, and their size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from iff_detectron2.video.frames import (
    VIDEO_SUFFIXES,
    VideoFileFrames,
    split_frame_name,
    video_frame_size,
    video_length,
)
from iff_detectron2.video.images import natural_key, upright_size

from .frame_folder import image_names, numbers_in


class VideoFrames(NamedTuple):
    """The frames of a video.

    Attributes:
        files: name of each, as `read_frame` takes it.
        numbers: number of each in the source: in its file name, or from 0 in a video file.
    """

    files: Sequence[str]
    numbers: Sequence[int]


def frames_at(path: Path, place: str) -> VideoFrames:
    """Find the frames of a video.

    Args:
        path: a video file, or a folder of images.
        place: what names the video, for messages.

    Raises:
        FileNotFoundError: it is neither, or the folder has no image.
        OSError, ValueError: the video cannot be read.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        numbers = range(video_length(str(path)))
        return VideoFrames(VideoFileFrames(str(path), numbers), numbers)
    if not path.is_dir():
        raise FileNotFoundError(f"{place}: {path} is neither a video file nor a folder of frames")
    names = image_names(path)
    if not names:
        raise FileNotFoundError(f"{place}: {path} has no image")
    found = numbers_in(names)
    if found is None:
        ordered = sorted(names, key=natural_key)
        return VideoFrames([f"{path}/{name}" for name in ordered], range(len(names)))
    by_number = dict(sorted(zip(found, names, strict=True)))
    if len(by_number) < len(names):
        raise ValueError(f"{place}: two images of {path} have the same number")
    return VideoFrames([f"{path}/{name}" for name in by_number.values()], list(by_number))


def find_frames(root: Path, name: str, place: str) -> VideoFrames:
    """Find the frames of a video that a labelling tool names.

    Args:
        root: the video file or folder of its frames itself, or a folder that has either under the
            video's name (without the extension for a folder).
        name: as the tool has it; its folders do not count.
        place: what names the video, for messages.

    Raises:
        FileNotFoundError, OSError, ValueError: see `frames_at`.
    """
    file = name.replace("\\", "/").rpartition("/")[2]
    if not root.is_dir() or not file or file in (".", "..") or "\0" in file:
        return frames_at(root, place)
    for candidate in (root / file, root / Path(file).stem):
        if candidate.exists():
            return frames_at(candidate, place)
    try:
        return frames_at(root, place)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{place}: {root} has neither the video {file!r}, nor a folder of its frames, nor "
            "frames itself"
        ) from None


def frame_size(file_name: str) -> tuple[int, int]:
    """Width and height in pixels of a frame as `read_frame` returns it; an image is not decoded.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read.
    """
    parts = split_frame_name(file_name)
    if parts is not None:
        return video_frame_size(parts[0])
    try:
        with Image.open(file_name) as image:
            return upright_size(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"the frame {file_name} does not exist") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the frame {file_name} cannot be read: {error}") from None
