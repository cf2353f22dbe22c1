"""Annotation files in JSON: everything that is taken from one is checked, errors name the place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .text_file import read_bytes

_MAX_INTEGER = 2**53  # beyond it JSON's numbers are not exact in every tool

Record = dict[str, Any]


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON (cut off, for one), or nested too deeply.
    """
    content = read_bytes(path, "annotation files are seen from the working directory")
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); is the file cut off?") from None
    except RecursionError:
        raise ValueError(f"{path} is not usable JSON: it is nested too deeply") from None


class AnnotationFile:
    """A JSON file whose top is an object with lists of records, as COCO's.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON (cut off, for one), or its top is not an object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        parsed = read_json(path)
        if not isinstance(parsed, dict):
            raise ValueError(f"{path} must hold a JSON object, got {type(parsed).__name__}")
        self._content = parsed

    def has(self, key: str) -> bool:
        """Whether there is anything at `key`: null is nothing."""
        return self._content.get(key) is not None

    def records(self, key: str) -> list[Record]:
        """Return the list `key`, each item an object.

        Raises:
            ValueError: it is missing or not a list of objects.
        """
        records = self._content.get(key)
        if not isinstance(records, list):
            raise ValueError(f"{self.path} lacks the list {key!r}; it has {sorted(self._content)}")
        for number, record in enumerate(records):
            if not isinstance(record, dict):
                raise ValueError(
                    f"{self.path}: {key}[{number}] must be an object, got {shorten(record)}"
                )
        return records

    def by_id(self, key: str) -> dict[int, Record]:
        """Return the list `key` by the `id` of its records, in the order of the file.

        Raises:
            ValueError: an id is missing, not an integer, or there twice.
        """
        table: dict[int, Record] = {}
        for number, record in enumerate(self.records(key)):
            identity = integer(record, "id", f"{self.path}: {key}[{number}]")
            if identity in table:
                raise ValueError(f"{self.path}: the id {identity} is there twice in {key!r}")
            table[identity] = record
        return table

    def place(self, key: str, identity: int) -> str:
        """Name a record in messages."""
        return f"{self.path}: {key} id {identity}"


def integer(record: Mapping[str, Any], key: str, place: str, minimum: int | None = None) -> int:
    """Return an integer field; JSON's 3.0 counts as 3.

    Args:
        record: JSON object.
        key: name of the field.
        place: of the record, for errors.
        minimum: least value that is allowed; None for any.

    Raises:
        ValueError: the field is missing, not an integer, or below the minimum.
    """
    value: Any = record.get(key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    good = number and value == value // 1 and abs(value) <= _MAX_INTEGER
    if not good or (minimum is not None and value < minimum):
        what = "an integer" if minimum is None else f"an integer of at least {minimum}"
        raise ValueError(f"{place}: {key!r} must be {what}, got {shorten(value)}")
    return int(value)


def text(record: Mapping[str, Any], key: str, place: str) -> str:
    """Return a text field that is not empty.

    Args:
        record: JSON object.
        key: name of the field.
        place: of the record, for errors.

    Raises:
        ValueError: the field is missing, empty or no text.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{place}: {key!r} must be a text that is not empty, got {shorten(value)}")
    return value


def numbers(value: Any, count: int, what: str, place: str) -> list[float]:
    """Return a list of `count` finite numbers.

    Args:
        value: what JSON holds.
        count: how many numbers it must be.
        what: its name, for errors.
        place: where it stands, for errors.

    Raises:
        ValueError: it is anything else.
    """
    good = isinstance(value, list) and len(value) == count
    if not good or not all(map(is_number, value)):
        raise ValueError(f"{place}: {what} must be {count} finite numbers, got {shorten(value)}")
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a finite number of a usable size."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= _MAX_INTEGER


def shorten(value: Any) -> str:
    """Return a value as it is shown in messages."""
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def reference(
    record: Mapping[str, Any], key: str, table: Mapping[int, Any], what: str, place: str
) -> int:
    """Return the id of another record, which must exist.

    Args:
        record: JSON object.
        key: field that holds the id.
        table: the other records by id.
        what: what those are, for errors.
        place: of the record, for errors.

    Raises:
        ValueError: the id is missing, not an integer, or not in the table.
    """
    identity = integer(record, key, place)
    if identity not in table:
        raise ValueError(f"{place}: {key} {identity} is not the id of any of the {what}")
    return identity
