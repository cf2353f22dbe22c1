"""Tells by its files which format a dataset is in, and the spec that registers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from iff_detectron2.video.frames import VIDEO_SUFFIXES

from .json_file import read_json
from .text_file import read_text
from .xml_tree import parse_xml_bytes

# Where tools put images and videos, as seen from the folder of the labels.
_PLACES = (".", "images", "images/default", "videos", "..", "../images", "../images/default")


def recognize(path: Path) -> str:
    """Return the spec (`KIND:...`) of the dataset at a path.

    Args:
        path: a file of labels, or a folder that holds a dataset.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it is no format that is known, or an unreadable file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    rules: Iterable[Callable[[Path], str | None]] = (
        (_moving_shapes_or_imagenet, _mot_kin, _yolo, _one_file)
        if path.is_dir()
        else (_xml, _json, _csv, _yaml)
    )
    for rule in rules:
        spec = rule(path)
        if spec is not None:
            return spec
    raise ValueError(
        f"{path} is in no format that is told by its files; say which it is by "
        "NAME=FORMAT:..., see docs/datasets.md"
    )


def _spec(kind: str, *parts: object) -> str:
    return f"{kind}:" + "@".join(str(part).replace("@", "@@") for part in parts)


def _moving_shapes_or_imagenet(path: Path) -> str | None:
    if not (path / "ImageSets").is_dir() or not (path / "Annotations").is_dir():
        return None
    lists = sorted((path / "ImageSets").glob("*.txt"))
    if not lists:
        raise ValueError(f"{path}/ImageSets has no list; make them with `iff-detectron2 index`")
    kind = "moving_shapes" if (path / "moving_shapes.json").is_file() else "imagenet_vid"
    return _spec(kind, path, lists[0].stem)


def _first(path: Path, *patterns: str) -> Path | None:
    return next((found for pattern in patterns for found in sorted(path.glob(pattern))), None)


def _mot_kin(path: Path) -> str | None:
    if (path / "sequences").is_dir() and (path / "annotations").is_dir():
        return _spec("visdrone", path)
    for root in (path, path / "training"):
        if (root / "image_02").is_dir() and (root / "label_02").is_dir():
            return _spec("kitti_tracking", root / "image_02", root / "label_02")
    if _first(path, "gt/labels.txt", "*/gt/labels.txt"):
        return _spec("cvat_mot", path)
    truth = _first(path, "gt/gt.txt", "*/gt/gt.txt")
    if truth is None or _first(path, "seqinfo.ini", "*/seqinfo.ini") is None:
        return None
    lines = [line for line in read_text(truth, "").splitlines() if line.strip()]
    tens = [line.strip().rstrip(",").split(",")[7:] for line in lines]
    looks = all(len(t) == 3 and t[0].isdecimal() and t[1] in "01" and t[2] in "012" for t in tens)
    return _spec("visdrone" if lines and looks else "mot_challenge", path)


def _yolo(path: Path) -> str | None:
    names = ("data.yaml", "dataset.yaml", "obj.names")
    return _spec("yolo", path) if any((path / name).is_file() for name in names) else None


def _one_file(path: Path) -> str | None:
    """Return the spec of the only file of labels in a folder, or in its `annotations`."""
    for folder in (path, path / "annotations"):
        files = [f for end in ("xml", "json", "csv") for f in sorted(folder.glob(f"*.{end}"))]
        if len(files) == 1:
            return recognize(files[0])
        if files:
            shown = ", ".join(file.name for file in files[:5])
            raise ValueError(
                f"{folder} has {len(files)} files that may be labels ({shown}); name one"
            )
    return None


def _places(path: Path) -> Iterator[Path]:
    yield from (path.parent / place for place in _PLACES)


def _root_of(path: Path, names: Iterable[Any]) -> Path:
    """Return the folder below which the first named file lies, else that of the labels."""
    name = next((n.replace("\\", "/") for n in names if isinstance(n, str)), None)
    root = next((p for p in _places(path) if name and (p / name).is_file()), path.parent)
    return Path(*root.parts) if ".." not in root.parts else root.resolve()


def _root_of_videos(path: Path) -> Path:
    """Return the folder with videos, or with images, that is nearest to the labels."""
    for place in _places(path):
        if any(place.glob(f"*{end}") for end in VIDEO_SUFFIXES if _first(place, f"*{end}")):
            return place.resolve() if ".." in place.parts else place
    images = next((p for p in _places(path) if _first(p, "*.jpg", "*.png", "*.PNG")), path.parent)
    return images.resolve() if ".." in images.parts else images


def _xml(path: Path) -> str | None:
    if path.suffix.lower() != ".xml":
        return None
    root = parse_xml_bytes(path.read_bytes(), str(path))
    if root.tag == "annotations" and root.find("meta") is not None:
        return _spec("cvat_video", _root_of_videos(path), path)
    if root.tag == "sequence" and root.find("frame") is not None:
        name = root.get("name") or path.stem
        images = next((p for p in _places(path) if (p / name).is_dir()), path.parent)
        return _spec("ua_detrac", images, path)
    return None


def _json(path: Path) -> str | None:
    if path.suffix.lower() != ".json":
        return None
    content = read_json(path)
    if isinstance(content, list):
        tasks = content and isinstance(content[0], dict) and "annotations" in content[0]
        return _spec("label_studio", _root_of_videos(path), path) if tasks else None
    if not isinstance(content, dict):
        return None

    def records(key: str) -> list[dict[str, Any]]:
        value = content.get(key)
        return [r for r in value if isinstance(r, dict)] if isinstance(value, list) else []

    images, videos = records("images"), records("videos")
    if records("sequences"):
        return _spec("burst", path.parent, path)
    if videos and isinstance(videos[0].get("file_names"), list):
        return _spec("youtube_vis", _root_of(path, videos[0]["file_names"]), path)
    if videos and not any("file_name" in image for image in images[:1]):
        return _spec("video_files", _root_of(path, [v.get("file_name") for v in videos]), path)
    if images:
        root = _root_of(path, [image.get("file_name") for image in images[:1]])
        return _spec("coco_vid" if videos else "coco_frames", root, path)
    return None


def _csv(path: Path) -> str | None:
    head = read_text(path, "").partition("\n")[0] if path.suffix.lower() == ".csv" else ""
    if "region_shape_attributes" not in head:
        return None
    name = read_text(path, "").partition("\n")[2].partition(",")[0].strip('"')
    return _spec("via_csv", _root_of(path, [name]), path)


def _yaml(path: Path) -> str | None:
    return _yolo(path.parent) if path.name in ("data.yaml", "dataset.yaml", "obj.names") else None
