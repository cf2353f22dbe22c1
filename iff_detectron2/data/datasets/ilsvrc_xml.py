"""One annotation file of ImageNet VID or DET."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class XMLObject:
    """One object of an annotation file, as written.

    Attributes:
        name: synset (or class name) of the object.
        box: x1, y1, x2, y2 in pixels, as written.
        track_id: id of the track within the video; None where the file has none (DET).
    """

    name: str
    box: tuple[float, float, float, float]
    track_id: int | None


@dataclass(frozen=True)
class XMLAnnotation:
    """One annotation file.

    Attributes:
        width: width of the image in pixels.
        height: height of the image in pixels.
        objects: may be empty.
    """

    width: int
    height: int
    objects: tuple[XMLObject, ...]


def _text(node: ElementTree.Element, tag: str, path: Path) -> str:
    text = node.findtext(tag)
    if text is None or not text.strip():
        raise ValueError(f"the annotation {path} has no <{tag}> in a <{node.tag}>")
    return text.strip()


def _number(node: ElementTree.Element, tag: str, path: Path) -> float:
    text = _text(node, tag, path)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the annotation {path} has <{tag}> {text!r}, which is not a number")
    return value


def _integer(node: ElementTree.Element, tag: str, path: Path, minimum: int) -> int:
    value = _number(node, tag, path)
    if value != int(value) or value < minimum:
        raise ValueError(
            f"the annotation {path} has <{tag}> {value:g}; "
            f"expected an integer of at least {minimum}"
        )
    return int(value)


def _read_object(node: ElementTree.Element, path: Path) -> XMLObject:
    bndbox = node.find("bndbox")
    if bndbox is None:
        raise ValueError(f"the annotation {path} has an <object> without <bndbox>")
    x1, y1, x2, y2 = (_number(bndbox, tag, path) for tag in ("xmin", "ymin", "xmax", "ymax"))
    track_id = None if node.find("trackid") is None else _integer(node, "trackid", path, 0)
    return XMLObject(_text(node, "name", path), (x1, y1, x2, y2), track_id)


def read_xml(path: Path) -> XMLAnnotation:
    """Read an annotation file; the image itself is not opened.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not XML, or lacks a size, a name or a box.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the annotation {path} does not exist; check that the dataset's Annotations folder "
            "is complete, or write MovingShapes anew with `iff-detectron2 synth`"
        ) from None
    except ElementTree.ParseError as error:
        raise ValueError(f"the annotation {path} is not well-formed XML: {error}") from None
    size = root.find("size")
    if size is None:
        raise ValueError(f"the annotation {path} has no <size>")
    return XMLAnnotation(
        width=_integer(size, "width", path, 1),
        height=_integer(size, "height", path, 1),
        objects=tuple(_read_object(node, path) for node in root.iterfind("object")),
    )
