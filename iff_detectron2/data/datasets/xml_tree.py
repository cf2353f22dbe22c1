"""XML of a dataset's files as a tree, without what XML can do besides: no DOCTYPE, no entities."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .text_file import read_bytes, to_number

MAX_BYTES = 1 << 29


class _PlainTreeBuilder(ElementTree.TreeBuilder):
    """Refuses a DOCTYPE, which is where entities would be declared."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which no annotation needs")


def parse_xml_bytes(data: bytes, what: str) -> ElementTree.Element:
    """Return the root of an XML document.

    Args:
        data: the document.
        what: names the file in messages.

    Raises:
        ValueError: it is not well-formed, has a DOCTYPE, or is larger than 512 MiB.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{what} has {len(data)} bytes; at most {MAX_BYTES} are read")
    parser = ElementTree.XMLParser(target=_PlainTreeBuilder())
    try:
        parser.feed(data)
        return parser.close()
    # A name of an unknown encoding is a LookupError.
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{what} is not well-formed XML: {error}") from None


def read_xml_tree(path: Path, root: str, what: str) -> ElementTree.Element:
    """Read an XML file.

    Args:
        path: the file.
        root: tag that its root must have.
        what: what the file is, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see `parse_xml_bytes`; or another root.
    """
    tree = parse_xml_bytes(read_bytes(path, what), str(path))
    if tree.tag != root:
        raise ValueError(f"{path} begins with <{tree.tag}>, not with <{root}>; {what}")
    return tree


def attribute(node: ElementTree.Element, key: str, place: str) -> str:
    """Return an attribute.

    Args:
        node: XML element.
        key: name of the attribute.
        place: of the element, for errors.

    Raises:
        ValueError: the element lacks it.
    """
    value = node.get(key)
    if value is None:
        raise ValueError(f"{place}: <{node.tag}> lacks the attribute {key!r}")
    return value


def number(node: ElementTree.Element, key: str, place: str) -> float:
    """Return an attribute that is a finite number.

    Args:
        node: XML element.
        key: name of the attribute.
        place: of the element, for errors.

    Raises:
        ValueError: the element lacks it, or it is anything else.
    """
    return to_number(attribute(node, key, place), f"{key!r} of <{node.tag}>", place)
