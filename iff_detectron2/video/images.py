"""Image files: which of a folder are frames, and how one becomes 8-bit pixels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: width and height change places
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def is_frame_name(name: str) -> bool:
    """Whether a file of this name is a frame: an image's suffix, and not hidden.

    macOS puts a hidden `._0001.jpg` beside `0001.jpg` on foreign disks, which is no image.
    """
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def frame_files(folder: Path) -> list[Path]:
    """Return the frames of a folder in natural order: `2.png` before `10.png`.

    A link that leads nowhere is a frame, which cannot be read: without it, all behind it would
    take other numbers.
    """
    found = [file for file in folder.iterdir() if is_frame_name(file.name) and not file.is_dir()]
    return sorted(found, key=lambda file: natural_key(file.name))


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key that takes runs of digits as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts], name


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels that an image has when it is read upright, from its header."""
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION) in _TURNED else (width, height)


def _is_sixteen_bit(image: Image.Image) -> bool:
    # Pillow up to 10 opens 16-bit PNG as 32-bit integers.
    return image.mode in _SIXTEEN_BIT or (image.mode, image.format) == ("I", "PNG")


def check_depth(image: Image.Image) -> None:
    """Raise ValueError for pixels without a white: floating point and 32-bit integers."""
    if image.mode in ("I", "F") and not _is_sixteen_bit(image):
        kind = "floating point numbers" if image.mode == "F" else "32-bit integers"
        raise ValueError(f"its pixels are {kind}; save it with 8 bits, 0 for black, 255 for white")


def read_image(path: str, image_format: str | None = None) -> np.ndarray:
    """Read an image file as Detectron2's `read_image` does, whatever its depth, upright.

    Of 16-bit grey the upper byte is taken, as Pillow takes it of 16-bit colour: 65535 is white.
    What has no white, floating point and 32-bit integers, is refused.

    Args:
        path: the file.
        image_format: format of `detectron2.data.detection_utils.read_image`.

    Returns:
        (H, W, C), uint8 unless the format says otherwise.

    Raises:
        FileNotFoundError: the file is missing.
        OSError: it cannot be decoded, or has no 8-bit form; the file is named.
    """
    try:
        with PathManager.open(path, "rb") as stream, Image.open(stream) as image:
            if _is_sixteen_bit(image):
                values = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint32)
                grey = Image.fromarray((values >> 8).astype(np.uint8))
                return detection_utils.convert_PIL_to_numpy(grey, image_format)
            check_depth(image)
        return detection_utils.read_image(path, format=image_format)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise OSError(f"{path} cannot be decoded (it is no image that Pillow knows)") from error
    # Whatever a decoder meets in a damaged file: Pillow raises SyntaxError, ValueError, EOFError,
    # struct.error, and DecompressionBombError for a picture too large to be one.
    except Exception as error:
        raise OSError(f"{path} cannot be decoded ({error})") from error
