from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import Image

from iff_detectron2.video.images import frame_files, is_frame_name, natural_key, read_image

GREY16 = np.array([[0, 255, 256], [0x7FFF, 0x8000, 65535]], np.uint16)


def test_natural_order():
    names = ["b2", "a10.png", "a9.png", "10", "9", "A1.png", "a010b2", "a10b10"]
    ordered = ["9", "10", "A1.png", "a9.png", "a10.png", "a010b2", "a10b10", "b2"]
    assert sorted(names, key=natural_key) == ordered


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("0001.jpg", True), ("A.JPEG", True), ("x.tiff", True), (".jpg", False)),
        *(("._0001.jpg", False), (".hidden.png", False), ("0001.txt", False), ("jpg", False)),
    ],
)
def test_which_names_are_frames(name, expected):
    assert is_frame_name(name) is expected


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators only")
def test_hidden_files_are_no_frames_and_dangling_links_are(tmp_path: Path):
    for name in ("1.png", "2.png", "10.png", "._1.png", "._2.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    (tmp_path / "3.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "4.png").mkdir()
    assert [file.name for file in frame_files(tmp_path)] == ["1.png", "2.png", "3.png", "10.png"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L"])
def test_of_sixteen_bits_the_upper_byte_is_taken(tmp_path: Path, suffix, image_format):
    path = str(tmp_path / f"a{suffix}")
    Image.fromarray(GREY16).save(path)
    grey = read_image(path, image_format)
    expected = np.array([[0, 0, 1], [0x7F, 0x80, 255]], np.uint8)
    np.testing.assert_array_equal(grey, expected[..., None].repeat(grey.shape[2], axis=2))
    assert grey.dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "kind"),
    [(np.ones((3, 4), np.float32), "floating point"), (np.ones((3, 4), np.int32), "32-bit")],
)
def test_pixels_without_a_white_are_refused(tmp_path: Path, values, kind):
    path = tmp_path / "depth.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(OSError, match=rf"depth\.tif cannot be decoded \(its pixels are {kind}"):
        read_image(str(path), "BGR")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_eight_bits_are_read_as_detectron2_reads_them(tmp_path: Path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "a.png", exif=exif)
    read = read_image(str(tmp_path / "a.png"), "BGR")
    assert read.shape == (5, 6, 3)
    expected = detection_utils.read_image(str(tmp_path / "a.png"), "BGR")
    np.testing.assert_array_equal(read, expected)


def _png_of_claimed_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", _png_of_claimed_size(20000, 20000), _png_of_claimed_size(8, 8)],
    ids=["empty", "text", "bomb", "no data"],
)
def test_whatever_cannot_be_decoded_is_named(tmp_path: Path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(OSError, match=r"x\.png cannot be decoded"):
        read_image(str(tmp_path / "x.png"), "BGR")


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_image(str(tmp_path / "x.png"), "BGR")
