"""Reads pickles of arrays, as Detectron2's model zoo has them, and nothing else in a pickle.

Nothing of numpy is called by a file: what it may name are the stand-ins below, which note what they
get and check it. Arrays are made from that in the end, of numbers alone.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager

# No file of weights is nested deeper: a dict of arrays, in a dict.
_DEEPEST = 8
_NUMBERS = re.compile("b1|[iu][1248]|f[248]|c8|c16")


# What pickle raises for damaged files; its documentation names the first two.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ArithmeticError, LookupError, AttributeError),
    *(TypeError, ValueError, MemoryError, RecursionError),
)


class _Type:
    """Stands for numpy.dtype: a number of some size."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or _NUMBERS.fullmatch(code) is None:
            raise pickle.UnpicklingError(f"it has an array of {code!r:.40}, which is no number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order, parts = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts):
            raise pickle.UnpicklingError("it has an array of another type than its name says")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for numpy.ndarray."""

    def __init__(self) -> None:
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, column_major, data = state
        self.array = _make_array(shape, kind, data, "F" if column_major else "C")


def _make_array(shape: Any, kind: Any, data: Any, order: str) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")  # from Python 2
    if not (isinstance(kind, _Type) and isinstance(data, bytes) and isinstance(shape, tuple)):
        raise pickle.UnpicklingError("it has an array that is not made of bytes")
    if len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError(f"it has an array of shape {shape!r:.80}")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"{len(data)} bytes do not fill an array of shape {shape}")
    # A copy, because bytes cannot be written to.
    array = np.frombuffer(data, kind.dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    return array.astype(kind.dtype.newbyteorder("="), order="C", copy=True)


class _Reconstruct:
    """Stands for numpy's function that begins an array, whose state follows."""

    __slots__ = ()  # so that a file cannot give it attributes

    def __call__(self, kind: Any, shape: Any, code: Any) -> _Array:
        if kind is not _Array:
            raise pickle.UnpicklingError("it has an array of a class of its own")
        return _Array()


class _Scalar:
    """Stands for numpy's function that makes a single number."""

    __slots__ = ()

    def __call__(self, kind: Any, data: Any = b"") -> Any:
        return _make_array((), kind, data, "C")[()]


class _Encode:
    """Stands for codecs.encode, by which Python 3 writes bytes in old protocols."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("it has text where bytes of an array are expected")
        return text.encode("latin1")


# All that a file may name.
_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Encode(),
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _Reconstruct()), ("scalar", _Scalar()))
    },
}


# The same for torch's own reader of pickles.
TORCH_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (stand_in, f"{module}.{name}")
    for (module, name), stand_in in _STAND_INS.items()
    if module != "collections"
]


def put_arrays(value: Any) -> Any:
    """Put arrays in place of what stands for them, in dicts and lists that stay the same."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            value[key] = put_arrays(part)
    elif type(value) is tuple:
        return tuple(put_arrays(part) for part in value)
    return value


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array or dict")
        return _STAND_INS[module, name]


def load_pickled_arrays(filename: str) -> Any:
    """Read a pickle of arrays of numbers, plain values and containers of these.

    Args:
        filename: a file or an address that Detectron2 knows. It is read whole; time and memory
            are in proportion to its size.

    Raises:
        ValueError: if it is cut, or holds anything else.
    """
    with PathManager.open(filename, "rb") as stream:
        data = stream.read()
    try:
        _check_memo(data)
        return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load(), {})
    except _DAMAGE as error:
        raise ValueError(f"cannot read the checkpoint {filename}: {error}") from error


def _check_memo(data: bytes) -> None:
    """Refuse numbers of remembered values beyond what a file of this size can have: pickle would
    make a table of that length."""
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and argument is not None and int(argument) > len(data):
            raise pickle.UnpicklingError(f"it remembers a value as number {argument}")


def _plain(value: Any, known: dict[int, Any], depth: int = 0) -> Any:
    """Return the value with arrays in place of what stands for them.

    Args:
        value: what was unpickled.
        known: results by the identity of values that were met before, since a file may name one
            in many places.
        depth: how deep it lies.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return value
    if isinstance(value, _Array):
        return value.array
    if depth > _DEEPEST:
        raise pickle.UnpicklingError(f"it is nested more than {_DEEPEST} deep")
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, dict):
        items = value.items()
        known[id(value)] = {k: _plain(v, known, depth + 1) for k, v in items}
    elif isinstance(value, list | tuple):
        known[id(value)] = type(value)(_plain(item, known, depth + 1) for item in value)
    else:
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}, no array or dict")
    return known[id(value)]
