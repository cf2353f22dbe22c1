"""What of a dataset folder belongs to the generator, and whether it is complete."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .casting import SPLITS, video_folder
from .options import MovingShapesOptions

VERSION = 1  # of the generator: raise it whenever the same options make other bytes
MARKER = "moving_shapes.json"
CONTACT_SHEET = "contact_sheet.png"
LISTS = {"train": "VID_train_15frames.txt", "val": "VID_val_videos.txt"}
_SUFFIXES = (("Data", ".JPEG"), ("Annotations", ".xml"))
_FILE_NAMES = {"Data": r"\d{6}\.JPEG", "Annotations": r"\d{6}\.xml"}


def list_path(root: Path, split: str) -> Path:
    """Path of the list of a split."""
    return root / "ImageSets" / LISTS[split]


def read_marker(root: Path) -> dict[str, Any] | None:
    """Read the completion marker; None if there is none."""
    path = root / MARKER
    if not path.is_file():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); remove it and try again") from error
    if not isinstance(marker, dict) or marker.get("generator") != "MovingShapes":
        raise ValueError(f"{path} was not written by this generator; choose another folder")
    return marker


def find_complete(root: Path, options: MovingShapesOptions) -> dict[str, Any] | None:
    """Return the marker of a complete set made with the same options, else None.

    Args:
        root: dataset root.
        options: the options asked for.

    Returns:
        The marker's content, or None where nothing, something else or a damaged set lies there.
    """
    marker = read_marker(root)
    if marker is None or not _same_options(marker, options):
        return None
    for split in SPLITS:
        numbers = range(options.num_videos(split))
        parts = {
            folder: video_files(root, folder, options.video_length(split))
            for folder in (video_folder(split, number) for number in numbers)
        }
        if parts:
            parts[split] = [list_path(root, split)]
        digests = marker.get("digests")
        if not isinstance(digests, dict):
            return None
        try:
            if any(content_digest(files) != digests.get(part) for part, files in parts.items()):
                return None
        except OSError:
            return None
    return marker


def video_files(root: Path, folder: str, length: int) -> list[Path]:
    """Return the files of a video: frames and annotations.

    Args:
        root: of the dataset.
        folder: of the video, below `Data/VID`.
        length: frames of the video.
    """
    names = [(kind, f"{t:06d}{suffix}") for t in range(length) for kind, suffix in _SUFFIXES]
    return [root / kind / "VID" / folder / name for kind, name in names]


def content_digest(files: Iterable[Path]) -> str:
    """Tell files of this content, in this order, from all others.

    Raises:
        OSError: one is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def check_writable(root: Path, options: MovingShapesOptions, *, overwrite: bool) -> None:
    """Refuse to write over another set, or over files that the generator did not make.

    Args:
        root: of the dataset to write.
        options: what is to be written.
        overwrite: allow to replace another set of the generator.

    Raises:
        NotADirectoryError: the root or a folder in the way is a file.
        FileExistsError: the folder holds another set, or somebody else's files of these names.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; give a folder for the dataset")
    marker = read_marker(root)
    if marker is not None and not overwrite and not _same_options(marker, options):
        raise FileExistsError(
            f"{root} holds a MovingShapes set made with other options "
            f"({_differences(marker, options)}); choose another folder or ask to overwrite it"
        )
    own_list = False
    for split in SPLITS:
        path = list_path(root, split)
        if not path.exists():
            continue
        start = f"{split}/moving_shapes_{split}_"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if not all(line.startswith(start) for line in lines):
            raise FileExistsError(
                f"{path} lists videos that this generator did not make; choose another folder"
            )
        own_list = True
    if (root / CONTACT_SHEET).exists() and marker is None and not own_list:
        raise FileExistsError(
            f"{root / CONTACT_SHEET} was not written by this generator; choose another folder"
        )


def remove_own_files(root: Path) -> None:
    """Remove a set that the generator wrote, whole or in part, and nothing else.

    The marker goes first, so that an interrupted removal leaves no set that looks complete.
    """
    (root / MARKER).unlink(missing_ok=True)
    (root / CONTACT_SHEET).unlink(missing_ok=True)
    for split in SPLITS:
        list_path(root, split).unlink(missing_ok=True)
        for kind, file_name in _FILE_NAMES.items():
            parent = root / kind / "VID" / split
            for folder in sorted(parent.glob(f"moving_shapes_{split}_*")):
                if not re.fullmatch(rf"moving_shapes_{split}_\d{{8}}", folder.name):
                    continue
                if folder.is_symlink() or not folder.is_dir():
                    continue
                for file in folder.iterdir():
                    if re.fullmatch(file_name, file.name) and file.is_file():
                        file.unlink()
                if not any(folder.iterdir()):
                    folder.rmdir()


def _same_options(marker: dict[str, Any], options: MovingShapesOptions) -> bool:
    return marker.get("version") == VERSION and marker.get("options") == options.to_json()


def _differences(marker: dict[str, Any], options: MovingShapesOptions) -> str:
    old, new = marker.get("options"), options.to_json()
    if not isinstance(old, dict):
        return "its options are not readable"
    changes = [f"{k}: {old.get(k)}, not {v}" for k, v in new.items() if old.get(k) != v]
    if marker.get("version") != VERSION:
        changes.append(f"generator version: {marker.get('version')}, not {VERSION}")
    return "; ".join(changes)
