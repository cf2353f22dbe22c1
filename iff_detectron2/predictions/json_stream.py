"""A JSON array of any length, one element after the other, in bounded memory.

Read with the standard library's decoder: msgspec has no reader of a stream, so that its typed
decoding needs the whole file in memory, and would save a fifth of the time to read predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

CHUNK_CHARACTERS = 1 << 20
LONGEST_ELEMENT = 1 << 24  # characters; more is not an element but a file that is broken
CUT_OFF = "the file is cut off, its list does not end; write or copy it again"


def iterate_json_array(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON file that holds one list of objects.

    Only a chunk of the text is in memory at a time. NaN and Infinity are read as Python does.

    Args:
        path: the file, UTF-8.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut off, malformed, or holds anything else, naming the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}")
    with path.open(encoding="utf-8") as stream:
        try:
            yield from _Reader(path, stream)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}") from error


class _Reader:
    """The text from the current place on, and how many lines lie before it."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path = path
        self._stream = stream
        self._text = ""
        self._position = 0
        self._lines_before = 0
        self._at_end = False
        self._count = 0
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._next_character() != "[":
            raise self._error("a list of detections was expected; the file must start with '['")
        self._position += 1
        if self._next_character() == "]":
            self._position += 1
        else:
            yield from self._elements()
        if self._next_character():
            raise self._error("there is text behind the end of the list")

    def _elements(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self._element()
            self._count += 1
            character = self._next_character()
            if character not in (",", "]"):
                raise self._error("',' or ']' was expected" if character else CUT_OFF)
            self._position += 1
            if character == "]":
                return

    def _element(self) -> dict[str, Any]:
        character = self._next_character()
        if character != "{":
            problem = "an object ('{') was expected" if character else CUT_OFF
            raise self._error(problem)
        result = self._decode()
        # Perhaps only the chunk ended here.
        while isinstance(result, json.JSONDecodeError):
            if len(self._text) - self._position > LONGEST_ELEMENT or not self._read_more():
                rest = self._text.rstrip()
                if self._at_end and (result.pos >= len(rest) or not rest.endswith("]")):
                    raise self._error(CUT_OFF) from result
                self._position = result.pos
                raise self._error(f"malformed JSON: {result.msg}") from result
            result = self._decode()
        return result

    def _decode(self) -> dict[str, Any] | json.JSONDecodeError:
        try:
            value, self._position = self._decoder.raw_decode(self._text, self._position)
        except json.JSONDecodeError as error:
            return error
        except (ValueError, RecursionError) as error:  # digits without end, nesting without end
            raise self._error(f"malformed JSON: {error}") from error
        return value

    def _next_character(self) -> str:
        """Return the next character that is not white space, left in place; '' at the end."""
        while True:
            text, position = self._text, self._position
            while position < len(text) and text[position] in " \t\r\n":
                position += 1
            self._position = position
            if position < len(text):
                return text[position]
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        chunk = "" if self._at_end else self._stream.read(CHUNK_CHARACTERS)
        self._at_end = not chunk
        if chunk:
            self._lines_before += self._text.count("\n", 0, self._position)
            self._text = self._text[self._position :] + chunk
            self._position = 0
        return bool(chunk)

    def _error(self, problem: str) -> ValueError:
        line = self._lines_before + self._text.count("\n", 0, self._position) + 1
        return ValueError(f"{self._path}, line {line}, detection {self._count}: {problem}")
