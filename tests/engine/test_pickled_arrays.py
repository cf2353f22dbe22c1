"""Pickles of the model zoo are read; whatever else a pickle can do is not done."""

from __future__ import annotations

import os
import pickle
import pickletools
import random
import time
from collections import OrderedDict

import numpy as np
import pytest

from iff_detectron2.engine.pickled_arrays import _STAND_INS, load_pickled_arrays

ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "double": np.linspace(0, 1, 4),
    "half": np.array([0.5], np.float16),
    "column major": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "bool": np.array([True, False]),
    "none": np.zeros((0, 3), np.float32),
    "alone": np.array(7, np.uint8),
    "number": np.float32(0.25),
    "complex": np.array([1 + 2j], np.complex64),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))
def test_arrays_come_back(tmp_path, protocol):
    path = tmp_path / "weights.pkl"
    # Old protocols have no bytes, and no way to write none of them without a call.
    arrays = {n: a for n, a in ARRAYS.items() if protocol > 2 or n != "none"}
    content = {"model": OrderedDict(arrays), "__author__": "zoo", "epoch": 3, "lists": [1, (2.5,)]}
    path.write_bytes(pickle.dumps(content, protocol))
    loaded = load_pickled_arrays(str(path))
    assert (loaded["__author__"], loaded["epoch"], loaded["lists"]) == ("zoo", 3, [1, (2.5,)])
    for name, value in arrays.items():
        assert type(loaded["model"][name]) is type(value)
        np.testing.assert_array_equal(loaded["model"][name], value)
        assert loaded["model"][name].dtype == value.dtype.newbyteorder("=")


def test_pickles_of_python_2_are_read(tmp_path):
    """Their strings are bytes: the names of weights, and the content of arrays."""
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02}U\x01w"
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00\xbftbs."
    )
    np.testing.assert_array_equal(load_pickled_arrays(str(path))["w"], np.float32([1.0, -0.5]))


class Call:
    """Pickles as a call of a function by its name."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args, state) if state is not None else (function, args)

    def __reduce__(self):
        return self.parts


ATTACKS = {
    "a function": Call(os.system, "true"),
    "an object array": np.array([1, "x"], dtype=object),
    # X2: a pointer of the file's choice, taken for an object.
    "memory as objects": Call(np.ndarray, (1,), np.dtype("O"), b"\x41" * 8),
    "objects in a record": np.zeros(1, [("a", "O")]),
    "a record": np.zeros(1, [("a", "f4")]),
    "text": np.array(["abc"]),
    "a date": np.array(["2020-01-01"], "M8[D]"),
    "a dtype alone": np.dtype("f4"),
    "a set": {1, 2},
    "an array without bytes": Call(np.ndarray, (10**9,), np.dtype("f4")),
    "a subclass": np.ma.masked_array([1.0], [True]),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused(tmp_path, attack, protocol):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": ATTACKS[attack]}}, protocol))
    with pytest.raises(ValueError, match=r"cannot read the checkpoint .*weights\.pkl"):
        load_pickled_arrays(str(path))


def by_hand(state: bytes, code: bytes = b"f4") -> bytes:
    """Return a pickle of an array whose type gets a state."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
        b"K\x01K\x02\x85cnumpy\ndtype\nU\x02" + code + b"K\x00K\x01\x87R" + state + b"\x89"
        b"U\x08\x00\x00\x80?\x00\x00\x00\xbftb."
    )


GOOD_STATE = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


@pytest.mark.parametrize(
    "data",
    [
        by_hand(GOOD_STATE, b"O8"),
        by_hand(GOOD_STATE, b"V4"),
        by_hand(GOOD_STATE.replace(b"NNN", b"NU\x01aN")),
        by_hand(GOOD_STATE.replace(b"U\x01<", b"U\x01!")),
        by_hand(GOOD_STATE).replace(b"K\x02\x85", b"K\x03\x85"),  # one number too few
        by_hand(GOOD_STATE).replace(b"K\x02\x85", b"J\xfe\xff\xff\xff\x85"),
        b"c_codecs\nencode\n(U\x04__x_I1\nd\x86b.",  # attributes of a stand-in
        b"ccollections\nOrderedDict\n}U\x01aK\x01sb.",
        b"I1\np4000000000\n.",  # a table of 4e9 places
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # so many bytes to come
        b"]q\x00h\x00a.",  # a list in itself
        b"]" * 50_000 + b"a" * 49_999 + b".",
        b"I" + b"9" * 100_000 + b"\n.",
    ],
)
def test_written_by_hand(tmp_path, data):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    began = time.perf_counter()
    with pytest.raises(ValueError, match=r"weights\.pkl"):
        load_pickled_arrays(str(path))
    assert time.perf_counter() - began < 2


def test_one_list_in_many_places_is_made_once(tmp_path):
    value = []
    for _ in range(7):
        value = [value] * 50
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(value))
    assert len(load_pickled_arrays(str(path))) == 50


def test_a_file_reaches_nothing_but_the_stand_ins():
    """Every opcode that brings in an object goes through `find_class` or makes plain values."""
    makers = {op.name for op in pickletools.opcodes if "global" in op.doc.lower()}
    assert makers >= {"GLOBAL", "STACK_GLOBAL"}
    assert len(_STAND_INS) == 8
    assert {getattr(f, "__module__", "") for f in _STAND_INS.values()} == {
        "collections",
        "iff_detectron2.engine.pickled_arrays",
    }


def mutants(count: int):
    """Damaged versions of a pickle of arrays."""
    draw = random.Random(0)
    some = {name: ARRAYS[name] for name in ("float", "column major", "alone", "number")}
    seeds = [pickle.dumps({"model": some, "__author__": "zoo"}, p) for p in (0, 2, 4)]
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 2, 8))):
            place = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[place] = draw.randrange(256)
            elif kind == 1:
                del data[place : place + draw.randrange(1, 9)]
            elif kind == 2:
                data[place:place] = bytes(draw.choices(range(256), k=draw.randrange(1, 9)))
            else:
                other = draw.randrange(len(data))
                data[place:place] = data[other : other + draw.randrange(1, 33)]
            if not data:
                break
        yield bytes(data)


def plain(value) -> bool:
    if isinstance(value, dict):
        return all(map(plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc"
    return value is None or isinstance(value, bool | int | float | str | bytes | np.generic)


@pytest.mark.parametrize(
    "count",
    [500, pytest.param(20_000, marks=pytest.mark.endurance)],
    ids=["few", "many"],
)
def test_damaged_files(tmp_path, count):
    path = tmp_path / "weights.pkl"
    read = refused = 0
    for data in mutants(count):
        path.write_bytes(data)
        try:
            assert plain(load_pickled_arrays(str(path)))
            read += 1
        except ValueError as error:
            refused += "weights.pkl" in str(error)
    assert read + refused == count
    assert refused > count / 4
