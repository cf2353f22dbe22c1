"""Cell arrays of numbers in MATLAB's files of version 5, as far as FGFA's file needs them.

The format is public: MAT-File Format, The MathWorks, "Level 5 MAT-Files". scipy reads more of it,
but a damaged file can end the process there; here no length is believed before it is compared with
what is left of the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_BYTES = 1 << 28  # unpacked; FGFA's file has a tenth of it

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CELL, _DOUBLE, _LAST_NUMERIC = 1, 6, 15  # classes of arrays
_COMPLEX = 0x0800


@dataclass
class _Elements:
    """Data elements one after the other: a tag with type and length, then content."""

    data: memoryview
    order: str
    position: int = 0

    def __bool__(self) -> bool:
        return self.position < len(self.data)

    def next(self) -> tuple[int, memoryview]:
        """Return type and content of the next element."""
        kind, length = struct.unpack_from(f"{self.order}II", self.data, self.position)
        start = self.position + 8
        if kind >> 16:  # up to four bytes beside the type
            kind, length = kind & 0xFFFF, kind >> 16
            start -= 4
            if length > 4:
                raise ValueError(f"a small element of {length} bytes")
            self.position += 8
        else:
            padding = 0 if kind == _COMPRESSED else -length % 8
            self.position = start + length + padding
        if start + length > len(self.data):
            raise ValueError(f"an element of {length} bytes goes beyond its end")
        return kind, self.data[start : start + length]

    def inside(self, content: memoryview) -> _Elements:
        return _Elements(content, self.order)

    def numbers(self) -> np.ndarray:
        """Return the next element as numbers of the type that it is stored in."""
        kind, content = self.next()
        if kind not in _NUMBERS:
            raise ValueError(f"numbers of the type {kind}")
        return np.frombuffer(content, np.dtype(self.order + _NUMBERS[kind]))


@dataclass
class _Array:
    """The head of an array; its content follows in `rest`."""

    kind: int
    flags: int
    shape: list[int]
    name: str
    rest: _Elements


def _array(elements: _Elements) -> _Array:
    flags = elements.numbers()
    if flags.dtype.itemsize != 4 or len(flags) != 2:
        raise ValueError("an array without its flags")
    shape = elements.numbers()
    if shape.dtype.itemsize != 4 or not 2 <= len(shape) <= 8 or (shape < 0).any():
        raise ValueError("an array without its shape")
    _, name = elements.next()
    kind = int(flags[0]) & 0xFF
    return _Array(kind, int(flags[0]), shape.tolist(), str(name, "ascii"), elements)


def _count(array: _Array) -> int:
    """Return the length of a vector."""
    if sum(side != 1 for side in array.shape) > 1 and 0 not in array.shape:
        raise ValueError(f"an array of shape {array.shape}, where a row or column should be")
    return math.prod(array.shape)


def _values(elements: _Elements) -> np.ndarray:
    """Return the numbers of a cell, float64."""
    kind, content = elements.next()
    if kind != _MATRIX:
        raise ValueError(f"an element of the type {kind} in a cell")
    if not content:
        return np.empty(0)
    array = _array(elements.inside(content))
    if not _DOUBLE <= array.kind <= _LAST_NUMERIC or array.flags & _COMPLEX:
        raise ValueError(f"a cell of the class {array.kind}, which is no array of real numbers")
    count = _count(array)
    values = array.rest.numbers() if array.rest else np.empty(0)
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers in a cell of shape {array.shape}")
    return values.astype(np.float64)


def _variables(data: bytes) -> Iterator[_Array]:
    """Yield the variables of a file."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < _HEADER:
        raise ValueError("it is no MAT file of version 5")
    elements = _Elements(memoryview(data)[_HEADER:], order)
    left = MAX_BYTES
    while elements:
        kind, content = elements.next()
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(content, left)
            left -= len(unpacked)
            if not unpacker.eof:
                raise ValueError(f"it is cut off, or has more than {MAX_BYTES >> 20} MiB unpacked")
            kind, content = elements.inside(memoryview(unpacked)).next()
        if kind == _MATRIX and content:
            yield _array(elements.inside(content))


def read_cells(path: Path, name: str) -> list[np.ndarray]:
    """Read a row or column of cells, each an array of real numbers.

    Args:
        path: the file.
        name: the variable.

    Returns:
        The numbers of each cell, float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, damaged, larger than `MAX_BYTES`, or without the variable.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB; it is another file")
    try:
        array = next((a for a in _variables(path.read_bytes()) if a.name == name), None)
        if array is None:
            raise ValueError(f"it has no variable {name!r}")
        if array.kind != _CELL:
            raise ValueError(f"its variable {name!r} has no cells")
        # Each takes 8 bytes at least, so that a wrong number ends at the end of the content.
        return [_values(array.rest) for _ in range(_count(array))]
    except (ValueError, struct.error, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
