"""What the picture tools share: checked BGR images, resizing, and readable text."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)


def class_color(label: int) -> Color:
    """Return the colour of a class, BGR; the same in every picture, neighbours far apart in hue."""
    # The golden ratio spreads any number of hues without clusters.
    hue = (0.02 + label * 0.6180339887) % 1.0
    saturation, value = [(0.85, 1.0), (0.6, 1.0), (0.95, 0.8)][label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize to width x height pixels: area averaging to shrink, bicubic to enlarge.

    Args:
        image: uint8 [H, W, 3].
        width: of the result in pixels.
        height: of the result in pixels.
    """
    if image.shape[:2] == (height, width):
        return image.copy()
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


@lru_cache(maxsize=32)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    # Matplotlib ships this font, so that text looks the same on every machine and is not
    # limited to the ASCII strokes of OpenCV.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


@lru_cache(maxsize=4096)
def _text_mask(text: str, size: int, bold: bool) -> np.ndarray:
    font = _font(size, bold)
    ascent, descent = font.getmetrics()
    width = max(1, int(np.ceil(font.getlength(text))))
    mask = Image.new("L", (width, ascent + descent), 0)
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    result = np.array(mask)
    result.setflags(write=False)
    return result


def text_size(text: str, size: int, bold: bool = False) -> tuple[int, int]:
    """Width and height in pixels of one line of text; the height depends on the size alone.

    Args:
        text: one line.
        size: of the font in pixels.
        bold: use the bold font.
    """
    height, width = _text_mask(text, size, bold).shape
    return width, height


def draw_text(
    image: np.ndarray,
    text: str,
    x: int,
    y: int,
    size: int,
    color: Color = BLACK,
    bold: bool = False,
) -> None:
    """Write one line of text into the image, cut off at its border.

    Args:
        image: uint8 [H, W, 3], changed in place.
        x: left edge of the text in pixels.
        y: top edge of the text in pixels.
        size: size of the font in pixels.
    """
    mask = _text_mask(text, size, bold)
    left, top = max(x, 0), max(y, 0)
    right = min(x + mask.shape[1], image.shape[1])
    bottom = min(y + mask.shape[0], image.shape[0])
    if left >= right or top >= bottom:
        return
    alpha = mask[top - y : bottom - y, left - x : right - x, None].astype(np.float32) / 255
    region = image[top:bottom, left:right]
    region[:] = np.rint(region * (1 - alpha) + np.array(color, np.float32) * alpha)


def draw_tag(
    image: np.ndarray,
    text: str,
    x: int,
    y: int,
    size: int,
    background: Color,
    bold: bool = False,
) -> None:
    """Write text on a filled rectangle, black or white, whichever reads better on it.

    Args:
        image: uint8 [H, W, 3], changed in place.
        text: one line.
        x: left edge in pixels.
        y: top edge in pixels.
        size: of the font in pixels.
        background: colour of the rectangle, BGR.
        bold: use the bold font.
    """
    width, height = tag_size(text, size, bold)
    cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), background, cv2.FILLED)
    draw_text(image, text, x + _tag_padding(size), y, size, readable_on(background), bold)


def tag_size(text: str, size: int, bold: bool = False) -> tuple[int, int]:
    """Width and height in pixels of the rectangle of `draw_tag`.

    Args:
        text: one line.
        size: of the font in pixels.
        bold: use the bold font.
    """
    width, height = text_size(text, size, bold)
    return width + 2 * _tag_padding(size), height


def _tag_padding(size: int) -> int:
    return max(2, size // 4)


def readable_on(background: Color) -> Color:
    """Black or white, whichever contrasts more with the background (Rec. 601 luma)."""
    blue, green, red = background
    return BLACK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else WHITE


def for_tensorboard(picture: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 BGR [H, W, 3], as RGB [3, H, W], as Detectron2's writer wants it."""
    return np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1))
