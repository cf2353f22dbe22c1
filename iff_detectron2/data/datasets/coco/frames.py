"""A folder of frames with COCO annotations of some or all of them: plain COCO, no videos in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iff_detectron2.data.datasets.frame_folder import FramePattern, split_number

from .images import (
    FramePosition,
    ImageAnnotations,
    LoadedDataset,
    frame_size,
    register_from_file,
)


class _Folders:
    """Finds the frames beside the annotated ones; looks into each folder once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[FramePattern, dict[str, int]] = {}
        self.videos: dict[str, Sequence[str]] = {}

    def position(self, name: str, place: str) -> FramePosition | None:
        """Video and frame of a file; None if its name has no number, so that it is a still."""
        parts = split_number(name)
        if parts is None:
            return None
        pattern = parts[0]
        video_id = pattern.video_id or self._root.absolute().name
        if pattern not in self._found:
            if video_id in self.videos:
                raise ValueError(
                    f"{place}: {name!r} and other frames of {video_id!r} differ in more than their "
                    "number; the frames of a video have one extension and one form of name"
                )
            names = list(pattern.on_disk(self._root).values())
            self._found[pattern] = {name: frame for frame, name in enumerate(names)}
            self.videos[video_id] = [f"{self._root}/{frame}" for frame in names]
        frame = self._found[pattern].get(name)
        if frame is None:
            raise FileNotFoundError(f"{place}: the frame {self._root / name} does not exist")
        return FramePosition(video_id, frame)


def load_coco_frames(
    name: str,
    json_file: Path,
    image_root: Path,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
) -> LoadedDataset:
    """Read a COCO file of video frames; see `register_coco_frames`. Images are not opened."""
    content = ImageAnnotations(name, json_file, classes)
    names = content.file_names()
    folders = _Folders(image_root)
    positions: dict[int, FramePosition] = {}
    first: dict[str, int] = {}
    for image_id, file_name in names.items():
        place = content.file.place("images", image_id)
        if first.setdefault(file_name, image_id) != image_id:
            raise ValueError(f"{place}: {file_name!r} is image {first[file_name]} already")
        position = folders.position(file_name, place)
        if position is not None:
            positions[image_id] = position
    return content.loaded(
        files={image_id: f"{image_root}/{file_name}" for image_id, file_name in names.items()},
        sizes={i: frame_size(r, {}, content.file.place("images", i)) for i, r in content.items()},
        positions=positions,
        videos=folders.videos,
        annotated_only=annotated_only,
    )


def register_coco_frames(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
) -> None:
    """Register frames with a plain COCO file; only folders are read, when it is used.

    Files whose names differ only in the last number are one video, in the order of the numbers:
    `clips/a/0001.jpg` and `clips/a_0001.jpg` are frames of the video `clips/a`. All such files
    on the disk are its frames; those that the JSON does not list are unlabelled and serve as
    neighbours. A listed file without a number in its name is a still.

    Args:
        name: the dataset's name in configs.
        json_file: COCO's `images`, `annotations`, `categories`.
        image_root: folder that the `file_name` of the images are below.
        classes: see `register_coco_vid`.
        annotated_only: list only images with an annotation; the others stay neighbours.

    Raises:
        ValueError: the name is taken, or a class is given twice.
    """
    register_from_file(
        name, load_coco_frames, json_file, image_root, classes, annotated_only=annotated_only
    )
