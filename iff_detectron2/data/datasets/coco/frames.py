"""A folder of frames with COCO annotations of some or all of them: plain COCO, no videos in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iff_detectron2.data.catalog import LoadedDataset
from iff_detectron2.data.datasets.folder_videos import FolderVideos
from iff_detectron2.data.datasets.frame_folder import FrameNames, FramePosition

from .images import (
    ImageAnnotations,
    frame_size,
    register_from_file,
)


def load_coco_frames(
    name: str,
    json_file: Path,
    image_root: Path,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    number: str | None = None,
) -> LoadedDataset:
    """Read a COCO file of video frames; see `register_coco_frames`. Images are not opened."""
    content = ImageAnnotations(name, json_file, classes)
    names = content.file_names()
    folders = FolderVideos(image_root, names.values(), number)
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
    number: str | None = None,
) -> None:
    """Register frames with a plain COCO file; only folders are read, when it is used.

    Files whose names differ only in a number are one video, in the order of the numbers:
    `clips/a/0001.jpg` and `clips/a_0001.jpg` are frames of the video `clips/a`. Of several numbers
    it is the last one that varies; what Roboflow (`.rf.<hash>`) and Label Studio (`<hash>-`) add to
    a name does not count. All such files on the disk are frames of the video; those that the JSON
    does not list are unlabelled and serve as reference frames. A listed file without a number in
    its name is a still.

    Args:
        name: the dataset's name in configs.
        json_file: COCO's `images`, `annotations`, `categories`.
        image_root: folder that the `file_name` of the images are below.
        classes: see `register_coco_vid`.
        annotated_only: list only images with an annotation; the others stay reference frames.
        number: regular expression with one group that finds the frame's number in a file name
            (without folder and extension), where it is not the last one that varies.

    Raises:
        ValueError: the name is taken, a class is given twice, or `number` is no such expression.
    """
    FrameNames((), number)  # refuses an expression that is none before anything is read
    register_from_file(
        name,
        load_coco_frames,
        json_file,
        image_root,
        classes,
        annotated_only=annotated_only,
        number=number,
    )
