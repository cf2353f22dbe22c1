"""MATLAB's cells of numbers, as scipy reads them; damaged files end in a sentence."""

from __future__ import annotations

import random
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from iff_detectron2.data.datasets.imagenet.mat_file import MAX_BYTES, read_cells

scipy_io = pytest.importorskip("scipy.io", reason="scipy writes the files that are compared")

CELLS = {
    "usual": [np.array([[0.25, 0.5]]), np.zeros((0, 0)), np.array([[1.0]])],
    "whole numbers": [np.array([[1.0, 0.0, 1.0]]), np.array([[3]], np.uint8)],
    "singles": [np.array([[0.1], [0.7]], np.float32), np.array([[-5, 70000]], np.int32)],
    "none": [],
    "many": [np.random.default_rng(i).random((1, i % 5)) for i in range(300)],
}


def write(path: Path, cells, name: str = "motion_iou", column: bool = True, **options) -> Path:
    array = np.empty((len(cells), 1) if column else (1, len(cells)), dtype=object)
    for number, cell in enumerate(cells):
        array.flat[number] = cell
    content = {"other": np.arange(5.0), "text": "abc", name: array}
    scipy_io.savemat(path, content, **options)
    return path


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_as_scipy_reads_them(tmp_path, cells, column, packed):
    path = write(tmp_path / "a.mat", CELLS[cells], column=column, do_compression=packed)
    expected = scipy_io.loadmat(path)["motion_iou"].reshape(-1)
    read = read_cells(path, "motion_iou")
    assert len(read) == len(expected) == len(CELLS[cells])
    for one, other in zip(read, expected, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, np.asarray(other, np.float64).reshape(-1))


def test_big_endian_by_hand(tmp_path):
    """MAT-File Format, level 5: flags, shape, name, and a double in a cell."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    def head(kind: int, name: bytes) -> bytes:
        flags = element(6, struct.pack(">II", kind, 0))
        return flags + element(5, struct.pack(">ii", 1, 1)) + element(1, name)

    value = element(14, head(6, b"") + element(9, struct.pack(">d", 0.625)))
    cell = element(14, head(1, b"motion_iou") + value)
    path = tmp_path / "a.mat"
    path.write_bytes(b" " * 124 + struct.pack(">H", 0x0100) + b"MI" + cell)
    assert [v.tolist() for v in read_cells(path, "motion_iou")] == [[0.625]]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([np.array([["text"]])], "a cell of the class 4"),
        ([np.array([[1j]])], "no array of real numbers"),
        ([np.ones((2, 2))], r"shape \[2, 2\]"),
    ],
)
def test_other_content_is_named(tmp_path, cells, problem):
    path = write(tmp_path / "a.mat", cells)
    with pytest.raises(ValueError, match=rf"a\.mat cannot be read: .*{problem}"):
        read_cells(path, "motion_iou")


def test_other_files_are_named(tmp_path):
    path = write(tmp_path / "a.mat", [np.ones((1, 1))], name="other_name")
    with pytest.raises(ValueError, match="no variable 'motion_iou'"):
        read_cells(path, "motion_iou")
    with pytest.raises(ValueError, match="'other' has no cells"):
        read_cells(path, "other")
    path.write_text("text")
    with pytest.raises(ValueError, match="no MAT file of version 5"):
        read_cells(path, "motion_iou")


def test_what_unpacks_to_more_than_it_may_is_refused(tmp_path):
    """A megabyte of zeros in a thousand bytes, a thousand times."""
    packed = zlib.compress(bytes(MAX_BYTES + 1), 9)
    path = tmp_path / "a.mat"
    head = b" " * 124 + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(ValueError, match="more than 256 MiB unpacked"):
        read_cells(path, "motion_iou")


@pytest.mark.parametrize(
    "count",
    [1000, pytest.param(20_000, marks=pytest.mark.endurance)],
    ids=["few", "many"],
)
def test_damaged_files(tmp_path, count):
    """X5: scipy ended the process with 17 of 2000."""
    draw = random.Random(0)
    path = tmp_path / "a.mat"
    seeds = [
        write(path, CELLS[name], do_compression=packed).read_bytes()
        for name in ("usual", "singles")
        for packed in (False, True)
    ]
    read = refused = 0
    began = time.process_time()
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 2, 5))):
            place = draw.randrange(100, len(data))
            kind = draw.randrange(3)
            if kind == 0:
                data[place] = draw.choice((0, 1, 255, draw.randrange(256)))
            elif kind == 1:
                data[place : place + 4] = struct.pack("<I", draw.getrandbits(32))
            else:
                del data[place : place + draw.randrange(1, 64)]
        path.write_bytes(data)
        try:
            assert all(v.dtype == np.float64 for v in read_cells(path, "motion_iou"))
            read += 1
        except ValueError as error:
            refused += str(error).startswith(f"{path} cannot be read")
    assert read + refused == count
    assert refused > count / 4
    assert time.process_time() - began < count / 100
