"""Makes the image lists of a bare ILSVRC tree: one with `Data` and `Annotations`, no more."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .annotation_reader import cache_path, read_annotations
from .list_rules import still_list_lines, train_list_lines, val_list_lines
from .vid import IMAGENET_VID_CLASSES


@dataclass(frozen=True)
class ImageList:
    """A list that was made.

    Attributes:
        path: where it belongs.
        lines: its lines.
        unit: what `num_units` counts.
        num_units: videos, or different images.
        num_frames: frames of the videos (val), else the number of lines.
    """

    path: Path
    lines: list[str]
    unit: str
    num_units: int
    num_frames: int

    @property
    def text(self) -> str:
        """Content of the file."""
        return "\n".join(self.lines) + "\n"


def find_videos(root: Path, split: str) -> list[tuple[str, int]]:
    """Find the videos below `Data/VID/<split>` and count their frames.

    Args:
        root: folder that holds `Data`.
        split: "train" or "val".

    Returns:
        Folder below `Data/VID` and number of frames of each video, sorted by folder.

    Raises:
        FileNotFoundError: there is no such folder, or no video in it.
        ValueError: the frames of a video are not numbered 000000.JPEG, 000001.JPEG, ...
    """
    base = root / "Data" / "VID"
    top = base / split
    videos = []
    with tqdm(desc=f"looking for {split} videos", unit=" videos", disable=None) as progress:
        for folder, subfolders, files in os.walk(top, onerror=_raise):
            subfolders.sort()
            frames = [name for name in files if name.endswith(".JPEG")]
            if frames:
                _check_numbers(folder, frames)
                videos.append((Path(folder).relative_to(base).as_posix(), len(frames)))
                progress.update()
    if not videos:
        raise FileNotFoundError(f"no folder with .JPEG frames lies below {top}")
    return sorted(videos)


def _raise(error: OSError) -> None:
    raise error


def _check_numbers(folder: str, frames: list[str]) -> None:
    odd = next((name for name in frames if not re.fullmatch(r"\d{6}\.JPEG", name)), None)
    if odd is not None:
        raise ValueError(
            f"{Path(folder) / odd} is not named as a frame; frames are named 000000.JPEG, "
            "000001.JPEG and so on"
        )
    numbers = {int(name[:6]) for name in frames}
    missing = next((n for n in range(len(numbers)) if n not in numbers), None)
    if missing == 0 and numbers == set(range(1, len(numbers) + 1)):
        raise ValueError(
            f"the frames of {folder} count from 1; they must count from 0, as in ImageNet VID"
        )
    if missing is not None:
        raise ValueError(
            f"{folder} has {len(numbers)} frames up to {max(numbers):06d}.JPEG, but no "
            f"{missing:06d}.JPEG; a video must have all its frames, counted from 0"
        )


def find_stills(root: Path, synsets: Iterable[str]) -> dict[str, list[str]]:
    """Find the DET training images with an object of each synset, by their annotations.

    Args:
        root: folder that holds `Annotations`.
        synsets: `<name>` of the objects, matched exactly.

    Returns:
        Synset -> paths below `Data/DET`, without extension.

    Raises:
        FileNotFoundError: there is no annotation.
        ValueError: an annotation is malformed.
    """
    base = root / "Annotations" / "DET"
    files = sorted(_xml_files(base / "train"))
    if not files:
        raise FileNotFoundError(f"no annotation lies below {base / 'train'}")
    table = read_annotations(files, "reading DET train", cache_path(root, "DET_train"))
    image_of_object = np.repeat(np.arange(len(files)), table.counts)
    skip, numbers = len(f"{base}/"), {name: n for n, name in enumerate(table.names)}
    found: dict[str, list[str]] = {}
    for synset in synsets:
        images = np.unique(image_of_object[table.name_ids == numbers.get(synset, -1)])
        found[synset] = [files[image][skip : -len(".xml")] for image in images]
    return found


def _xml_files(folder: Path) -> Iterator[str]:
    for place, _, files in os.walk(folder, onerror=_raise):
        yield from (f"{place}/{name}" for name in files if name.endswith(".xml"))


def _train_list(root: Path) -> ImageList:
    videos = find_videos(root, "train")
    lines = train_list_lines(videos)
    path = root / "ImageSets" / "VID_train_15frames.txt"
    return ImageList(path, lines, "videos", len(videos), len(lines))


def _val_list(root: Path) -> ImageList:
    videos = find_videos(root, "val")
    num_frames = sum(length for _, length in videos)
    path = root / "ImageSets" / "VID_val_videos.txt"
    return ImageList(path, val_list_lines(videos), "videos", len(videos), num_frames)


def _det_list(root: Path) -> ImageList:
    lines = still_list_lines(find_stills(root, IMAGENET_VID_CLASSES))
    if not lines:
        raise ValueError(
            f"no annotation below {root}/Annotations/DET/train has an object of the "
            f"{len(IMAGENET_VID_CLASSES)} classes"
        )
    path = root / "ImageSets" / "DET_train_30classes.txt"
    return ImageList(path, lines, "different images", len(set(lines)), len(lines))


# Part of the tree -> how its list is made.
LIST_MAKERS: Mapping[str, tuple[str, Callable[[Path], ImageList]]] = {
    "train": ("Data/VID/train", _train_list),
    "val": ("Data/VID/val", _val_list),
    "det": ("Annotations/DET/train", _det_list),
}
