"""One annotation file of ImageNet VID or DET."""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from iff_detectron2.data.datasets.xml_tree import parse_xml_bytes

MAX_INTEGER = 2**31 - 1


class XMLObject(NamedTuple):
    """One object of an annotation file, as written.

    Attributes:
        name: synset (or class name) of the object.
        box: x1, y1, x2, y2 in pixels, as written.
        track_id: id of the track within the video; None where the file has none (DET).
    """

    name: str
    box: tuple[float, float, float, float]
    track_id: int | None


class XMLAnnotation(NamedTuple):
    """One annotation file.

    Attributes:
        width: width of the image in pixels.
        height: height of the image in pixels.
        objects: may be empty.
    """

    width: int
    height: int
    objects: tuple[XMLObject, ...]


# What ILSVRC and MovingShapes write, element by element: such a file (nearly all are) needs no XML
# parser, which makes reading several times as fast. Whatever else is XML goes to the parser.
# Space between tags is taken out first: patterns that allow it everywhere would try all ways to
# share out a long one. So no two parts of these patterns fit the same text, and time is linear.
_SPACE = re.compile(rb">[\t\n\r ]+<")
_WORDS = r"[\t\n\r -%'-;=-~]*"


def _leaf(tag: str) -> str:
    return rf"<{tag}>{_WORDS}</{tag}>"


def _numbers(*tags: str) -> str:
    number = r"\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*"
    return "".join(f"<{tag}>{number}</{tag}>" for tag in tags)


def _compile(*parts: str) -> re.Pattern[bytes]:
    return re.compile("".join(parts).replace(r"\s", r"[\t\n\r ]").encode("ascii"))


_HEAD = _compile(
    "<annotation>",
    rf"(?:{_leaf('folder')})?(?:{_leaf('filename')})?",
    rf"(?:<source>{_leaf('database')}</source>)?",
    r"<size><width>\s*([1-9]\d{0,8})\s*</width>",
    r"<height>\s*([1-9]\d{0,8})\s*</height></size>",
    rf"(?:{_leaf('segmented')})?",
)
_OBJECT = _compile(
    r"<object>",
    r"(?:<trackid>\s*(\d{1,9})\s*</trackid>)?",
    r"<name>\s*([!-%'-;=-~]+)\s*</name>",
    r"<bndbox>",
    rf"(?:{_numbers('xmax', 'xmin', 'ymax', 'ymin')}|{_numbers('xmin', 'xmax', 'ymin', 'ymax')})",
    r"</bndbox>",
    rf"(?:{'|'.join(map(_leaf, ('occluded', 'generated', 'truncated', 'difficult')))})*",
    r"</object>",
)
_TAIL = _compile(r"</annotation>\s*")


def _parse_plain(data: bytes) -> XMLAnnotation | None:
    """Read a file of the usual form; None leaves it to the XML parser."""
    data = _SPACE.sub(b"><", data)
    head = _HEAD.match(data)
    if head is None:
        return None
    objects = []
    position = head.end()
    while (match := _OBJECT.match(data, position)) is not None:
        track, name, *numbers = match.groups()
        if numbers[0] is not None:
            x2, x1, y2, y1 = map(float, numbers[:4])
        else:
            x1, x2, y1, y2 = map(float, numbers[4:])
        track_id = None if track is None else int(track)
        objects.append(XMLObject(name.decode("ascii"), (x1, y1, x2, y2), track_id))
        position = match.end()
    if _TAIL.fullmatch(data, position) is None:
        return None
    return XMLAnnotation(int(head[1]), int(head[2]), tuple(objects))


def _text(node: ElementTree.Element, tag: str, path: str) -> str:
    text = node.findtext(tag)
    if text is None or not text.strip():
        raise ValueError(f"the annotation {path} has no <{tag}> in a <{node.tag}>")
    return text.strip()


def _number(node: ElementTree.Element, tag: str, path: str) -> float:
    text = _text(node, tag, path)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the annotation {path} has <{tag}> {text!r}, which is not a number")
    return value


def _integer(node: ElementTree.Element, tag: str, path: str, minimum: int) -> int:
    value = _number(node, tag, path)
    if value != int(value) or not minimum <= value <= MAX_INTEGER:
        raise ValueError(
            f"the annotation {path} has <{tag}> {value:g}; "
            f"expected an integer of at least {minimum} and at most {MAX_INTEGER}"
        )
    return int(value)


def _read_object(node: ElementTree.Element, path: str) -> XMLObject:
    bndbox = node.find("bndbox")
    if bndbox is None:
        raise ValueError(f"the annotation {path} has an <object> without <bndbox>")
    x1, y1, x2, y2 = (_number(bndbox, tag, path) for tag in ("xmin", "ymin", "xmax", "ymax"))
    track_id = None if node.find("trackid") is None else _integer(node, "trackid", path, 0)
    return XMLObject(_text(node, "name", path), (x1, y1, x2, y2), track_id)


def parse_xml(data: bytes, path: str) -> XMLAnnotation:
    """Read the content of an annotation file.

    Args:
        data: content of the file.
        path: its path, for messages.

    Raises:
        ValueError: the content is not XML, or lacks a size, a name or a box.
    """
    plain = _parse_plain(data)
    if plain is not None:
        return plain
    root = parse_xml_bytes(data, f"the annotation {path}")
    size = root.find("size")
    if size is None:
        raise ValueError(f"the annotation {path} has no <size>")
    return XMLAnnotation(
        width=_integer(size, "width", path, 1),
        height=_integer(size, "height", path, 1),
        objects=tuple(_read_object(node, path) for node in root.iterfind("object")),
    )


def read_xml(path: str | os.PathLike[str]) -> XMLAnnotation:
    """Read an annotation file; the image itself is not opened.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not XML, or lacks a size, a name or a box.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the annotation {path} does not exist; check that the dataset's Annotations folder "
            "is complete, or write MovingShapes anew with `iff-detectron2 synth`"
        ) from None
    return parse_xml(data, path)
