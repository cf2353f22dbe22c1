"""Labels per image file, put together to videos; what YOLO's and VIA's readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from iff_detectron2.data.bad_labels import leave_out
from iff_detectron2.data.datasets.folder_videos import FolderVideos
from iff_detectron2.data.datasets.frame_source import frame_size
from iff_detectron2.data.datasets.labelled_video import LabelledBox, LabelledVideo

# Boxes of an image, given the number of its frame and its width and height.
ReadImage = Callable[[int, tuple[int, int]], Iterable[LabelledBox]]


def videos_of_images(
    root: Path, images: Mapping[str, ReadImage], number: str | None, source: Path
) -> list[LabelledVideo]:
    """Make videos of labelled images, as `register_coco_frames` does.

    Args:
        root: folder that the names are below.
        images: name of each labelled image -> reads its labels.
        number: see `FrameNames`.
        source: file of the labels, for messages.

    Raises:
        FileNotFoundError: an image does not exist.
        ValueError: an image is no frame: its name has no number; or a label is malformed.
    """
    folders = FolderVideos(root, images, number)
    boxes: dict[str, list[LabelledBox]] = {}
    looked_at: dict[str, list[int]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, read in images.items():
        position = folders.position(name, str(source))
        if position is None:
            raise ValueError(f"{source}: the image {name!r} has no frame number in its name")
        video = position.video_id
        if video not in sizes:
            sizes[video] = frame_size(folders.videos[video][0])
        try:
            found = list(read(position.frame_number, sizes[video]))
        except (OSError, ValueError) as error:
            leave_out(str(root / name), error)
            continue
        looked_at.setdefault(video, []).append(position.frame_number)
        boxes.setdefault(video, []).extend(found)
    return [
        LabelledVideo(
            video,
            folders.videos[video],
            folders.numbers[video],
            *sizes[video],
            boxes[video],
            looked_at[video],
            str(source),
        )
        for video in boxes
    ]
