"""YOLO's text files: one per image, `class x y width height` and maybe a track id per line.

Two layouts: Ultralytics' (`data.yaml`, `images/`, `labels/`) and darknet's (`obj.names`,
`train.txt`, the text files beside the images), which CVAT exports as "YOLO 1.1".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.frame_folder import FrameNames, image_names
from iff_detectron2.data.datasets.json_file import shorten
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)
from iff_detectron2.data.datasets.relative_paths import check_relative
from iff_detectron2.data.datasets.text_file import lines_of, read_text, to_integer, to_number
from iff_detectron2.utils.plain_yaml import load_plain_yaml

from .images_of import ReadImage, videos_of_images

_SPLITS = ("train", "val", "valid", "test")
_WHAT = "a YOLO dataset is a folder with data.yaml, or with obj.names and train.txt"

_logger = logging.getLogger(__name__)


def read_yolo_boxes(
    path: Path, names: list[str], number: int, size: tuple[int, int]
) -> Iterator[LabelledBox]:
    """Read `class x y width height` lines, centre and size as parts of the image's.

    A sixth column that is an integer is a track id.

    Args:
        path: the text file of an image.
        names: class names by number.
        number: frame number of the image.
        size: width and height of the image in pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line, other columns, or an unknown class.
    """
    width, height = size
    for place, line in lines_of(path, "an image without objects has an empty file"):
        columns = line.split()
        if len(columns) not in (5, 6):
            what = "polygons or key points" if len(columns) > 6 else "no box"
            raise ValueError(
                f"{place}: expected class, x, y, width, height and maybe a track id, got "
                f"{len(columns)} columns, which is {what}: {line[:80]!r}"
            )
        class_id = to_integer(columns[0], "the class", place, 0)
        if class_id >= len(names):
            raise ValueError(f"{place}: class {class_id} has no name; there are {len(names)}")
        x, y, w, h = (to_number(column, "a column", place) for column in columns[1:5])
        if max(abs(x), abs(y), w, h) > 2:
            raise ValueError(
                f"{place}: x, y, width and height are parts of the image's, from 0 to 1; got "
                f"{line[:80]!r}"
            )
        track = None
        if len(columns) == 6:
            if "." in columns[5]:
                raise ValueError(
                    f"{place}: the sixth column must be a track id, got {columns[5]!r}; files with "
                    "confidences are predictions, not labels"
                )
            track = to_integer(columns[5], "the track id", place)
        x, y, w, h = x * width, y * height, w * width, h * height
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        identity = track if track is not None and track >= 0 else None
        yield LabelledBox(number, box, names[class_id], identity, place)


def _names(value: Any, path: Path) -> list[str]:
    """Class names, from a list or from a table of numbers."""
    if isinstance(value, Mapping):
        value = [value.get(number) for number in range(len(value))]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{path}: 'names' must name the classes 0, 1, ..., got {shorten(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{path}: two classes have the same name: {shorten(value)}")
    return value


def _read_yaml(path: Path) -> Mapping[Any, Any]:
    try:
        content = load_plain_yaml(read_text(path, _WHAT))
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise ValueError(f"{path} is not valid YAML: {shorten(reason)}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must hold a table with 'names', got {type(content).__name__}")
    return content


def _below(value: Any, place: str) -> str:
    """Return a path of the set, below its root."""
    if not isinstance(value, str):
        raise ValueError(f"{place}: a path must be a text, got {shorten(value)}")
    # Roboflow writes ../train/images, as seen from a folder that is not there.
    return check_relative(value.replace("\\", "/").removeprefix("../").removeprefix("./"), place)


def _listed(root: Path, path: Path) -> list[str]:
    """Names below the root of the images that a text file lists."""
    found = []
    for place, line in lines_of(path, _WHAT):
        name = _below(line.strip(), place)
        found.append(name if (root / name).exists() else name.removeprefix("data/"))
    return found


def _images(root: Path, split: str | None) -> tuple[list[str], list[str], bool, Path]:
    """Names of the images, class names, whether labels lie in a folder of their own, and source."""
    config = next((root / f for f in ("data.yaml", "dataset.yaml") if (root / f).is_file()), None)
    if config is None:
        names_file = root / "obj.names"
        lines = [line.strip() for _, line in lines_of(names_file, _WHAT)]
        path = root / f"{split or 'train'}.txt"
        return _listed(root, path), _names(lines, names_file), False, path
    content = _read_yaml(config)
    part = split or next((s for s in _SPLITS if content.get(s)), "train")
    folder = content.get("valid" if part == "val" and not content.get("val") else part)
    if not folder:
        raise ValueError(f"{config} has no {part!r}; name one of its parts behind an @")
    place = _below(folder, str(config))
    images = root / place
    if images.is_file():
        return _listed(root, images), _names(content.get("names"), config), True, images
    listed = [f"{place.rstrip('/')}/{name}" for name in sorted(image_names(images))]
    return listed, _names(content.get("names"), config), True, config


def _label_file(root: Path, image: str, apart: bool) -> Path:
    stem = image.rpartition(".")[0]
    if apart:
        head, found, tail = f"/{stem}".rpartition("/images/")
        stem = f"{head}/labels/{tail}".lstrip("/") if found else stem
    return root / f"{stem}.txt"


def _read(
    root: Path, split: str | None, number: str | None, check: BoxCheck
) -> tuple[list[LabelledVideo], list[str]]:
    images, names, apart, source = _images(root, split)
    labelled: dict[str, ReadImage] = {}
    for image in images:
        path = _label_file(root, image, apart)
        if path.is_file():
            labelled[image] = partial(read_yolo_boxes, path, names)
    if not labelled:
        raise FileNotFoundError(f"{source}: none of its {len(images)} images has a file of labels")
    if len(labelled) < len(images):
        _logger.info(
            "%s: %d images have no file of labels; they count as unlabelled",
            source,
            len(images) - len(labelled),
        )
    return videos_of_images(root, labelled, number, source), names


def register_yolo(
    name: str,
    root: str | Path,
    split: str | None = None,
    *,
    number: str | None = None,
    **options: Any,
) -> None:
    """Register images with YOLO's text files; nothing is read before the dataset is used.

    Files whose names differ only in a number are frames of one video, see `register_coco_frames`.
    An image without a text file is unlabelled, one with an empty file has no object.

    Args:
        name: the dataset's name in configs.
        root: folder with `data.yaml`, or with `obj.names` and `train.txt`.
        split: `train`, `val` or another part; the first that there is if left out.
        number: see `register_coco_frames`.
        **options: those of `register_videos`; `annotated_only` is False if left out.
    """
    FrameNames((), number)
    options = {"annotated_only": False, **options}
    folder = Path(root).expanduser()
    register_videos(name, partial(_read, folder, split, number), folder, **options)
