"""Video files annotated by frame number; frames are decoded when they are needed.

The annotations are COCO-VID's (`coco_vid`), with `file_name` in `videos` instead of `images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from iff_detectron2.data.catalog import LoadedDataset
from iff_detectron2.data.datasets.frame_folder import FramePosition
from iff_detectron2.data.datasets.json_file import Record, integer, text
from iff_detectron2.data.datasets.relative_paths import check_relative
from iff_detectron2.data.datasets.text_file import MAX_FRAMES
from iff_detectron2.video.frames import (
    VideoFileFrames,
    check_video_name,
    video_frame_size,
    video_length,
)

from .images import (
    ImageAnnotations,
    register_from_file,
)
from .vid import ListedVideos

_PROGRESS_FROM = 20


def _frames(record: Record, root: Path, place: str) -> VideoFileFrames:
    """Frames of a video; counted in the file if its record has no `length`."""
    path = f"{root}/{check_relative(text(record, 'file_name', place), place)}"
    check_video_name(path)
    if "length" in record:
        length = integer(record, "length", place, 1)
        if length > MAX_FRAMES:
            raise ValueError(f"{place}: a video has at most {MAX_FRAMES} frames, got {length}")
    else:
        try:
            length = video_length(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{place}: {error}") from None
    return VideoFileFrames(path, range(length))


def load_video_files(
    name: str,
    json_file: Path,
    video_root: Path,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    first_frame: int = 0,
) -> LoadedDataset:
    """Read the annotations of video files; see `register_video_files`."""
    content = ImageAnnotations(name, json_file, classes)
    file = content.file
    listed = ListedVideos(content)
    stills = sorted(content.images.keys() - {i for f in listed.frames.values() for i, _ in f})
    if stills:
        raise ValueError(f"{file.place('images', stills[0])}: 'video_id' must name its video")
    videos: dict[str, Sequence[str]] = {}
    positions: dict[int, FramePosition] = {}
    files: dict[int, str] = {}
    progress = tqdm(
        listed.frames.items(), f"opening {name}", disable=len(listed.frames) < _PROGRESS_FROM
    )
    for video, frames in progress:
        place = file.place("videos", video)
        record = listed.records[video]
        video_id = listed.names[video]
        of_video = videos[video_id] = _frames(record, video_root, place)
        for image_id, number in frames:
            frame = number - first_frame
            if not 0 <= frame < len(of_video):
                raise ValueError(
                    f"{file.place('images', image_id)}: frame {number} is outside of "
                    f"{of_video.path}, whose frames are {first_frame} to "
                    f"{first_frame + len(of_video) - 1}"
                )
            positions[image_id] = FramePosition(video_id, frame, number)
            files[image_id] = of_video[frame]
        if "width" not in record and any("width" not in content.images[i] for i, _ in frames):
            record["width"], record["height"] = video_frame_size(of_video.path)
    return content.loaded(
        files=files,
        sizes=listed.sizes(),
        positions=positions,
        videos=videos,
        annotated_only=annotated_only,
    )


def register_video_files(
    name: str,
    json_file: str | Path,
    video_root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    first_frame: int = 0,
) -> None:
    """Register video files annotated by frame number; nothing is read before it is used.

    `videos`: `id`, `file_name` below the root, maybe `name`, `width`, `height`, `length` (frames in
    the file; without it each file is opened once to count them). `images`: `id`, `video_id`,
    `frame_id`. `annotations` and `categories` as in COCO-VID. Only annotated frames need an entry
    in `images`; all frames of a file serve as reference frames. `file_name` of a dataset dict is
    `<video file>#frame=<number from 0>`, which `read_frame` reads.

    Args:
        name: the dataset's name in configs.
        json_file: the annotation file.
        video_root: folder that the video files are below.
        classes: see `register_coco_vid`.
        annotated_only: list only frames with an annotation; the others stay reference frames.
        first_frame: number that the annotations give the first frame of a file, 0 or 1.

    Raises:
        ValueError: the name is taken, a class is given twice, or `first_frame` is neither.
    """
    if first_frame not in (0, 1):
        raise ValueError(f"first_frame must be 0 or 1, got {first_frame!r}")
    register_from_file(
        name,
        load_video_files,
        json_file,
        video_root,
        classes,
        annotated_only=annotated_only,
        first_frame=first_frame,
    )
