"""What video does to pictures: motion blur, defocus, noise, compression, occlusion, darkness."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np


def blur_along(image: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Smear a float32 image evenly along a motion vector in pixels, centred on where it was."""
    length = float(np.hypot(*motion))
    if length < 0.5:
        return image
    radius = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, int(4 * length) + 3)
    for x, y in radius + steps[:, None] * motion:
        # Each sample of the path is shared by its four neighbours: the line is sub-pixel.
        left, top = int(x), int(y)
        fx, fy = x - left, y - top
        kernel[top, left] += (1 - fx) * (1 - fy)
        kernel[top, left + 1] += fx * (1 - fy)
        kernel[top + 1, left] += (1 - fx) * fy
        kernel[top + 1, left + 1] += fx * fy
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def defocus(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a float32 image as an unsharp lens does, sigma in pixels."""
    return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.1), borderType=cv2.BORDER_REPLICATE)


def add_noise(
    rng: np.random.Generator, image: np.ndarray, *, sigma: float, grain: float
) -> np.ndarray:
    """Add fine noise, and coarse noise of `grain` pixels, each of deviation `sigma` (0-255).

    Args:
        rng: source of chance.
        image: [H, W, 3], grey levels from 0 to 255.
        sigma: standard deviation of each noise in grey levels.
        grain: size of the coarse noise in pixels.
    """
    height, width = image.shape[:2]
    fine = rng.standard_normal((height, width, 3), dtype=np.float32)
    nodes = (int(height / grain) + 1, int(width / grain) + 1, 3)
    coarse = cv2.resize(
        rng.standard_normal(nodes, dtype=np.float32),
        (width, height),
        interpolation=cv2.INTER_NEAREST,
    )
    return np.clip(image + np.float32(sigma) * (fine + coarse), 0, 255)


def compress(image: np.ndarray, *, shrink: float, strength: float) -> np.ndarray:
    """Send a float32 image through a small, low-quality JPEG, as a starved video stream would.

    Args:
        image: float32 [H, W, 3], grey levels from 0 to 255.
        shrink: how many times smaller the sent picture is; at least 1.
        strength: 0 for good quality, 1 for poor.
    """
    height, width = image.shape[:2]
    shrink = max(shrink, 1.0)
    small_size = (max(int(width / shrink), 2), max(int(height / shrink), 2))
    small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA)
    quality = int(np.clip(16 - 12 * strength, 2, 100))
    done, code = cv2.imencode(
        ".jpg", np.clip(small, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise RuntimeError(f"OpenCV could not encode a JPEG of {small.shape[1]}x{small.shape[0]}")
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV could not decode the JPEG that it encoded")
    return cv2.resize(decoded.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def darken(image: np.ndarray, *, gain: float) -> np.ndarray:
    """Multiply a float32 image by a gain below 1, as an exposure that is too short does."""
    return image * np.float32(gain)


def occlude(
    rng: np.random.Generator, image: np.ndarray, box: tuple[int, int, int, int]
) -> np.ndarray:
    """Lay a patch of one colour and coarse grain over a box (x1, y1, x2, y2) of a float32 image.

    Args:
        rng: source of chance.
        image: float32 [H, W, 3], grey levels from 0 to 255.
        box: corners in whole pixels.
    """
    x1, y1, x2, y2 = box
    color = rng.uniform(0, 255, 3).astype(np.float32)
    patch = np.broadcast_to(color, (y2 - y1, x2 - x1, 3))
    result = image.copy()
    result[y1:y2, x1:x2] = add_noise(rng, patch, sigma=12, grain=4)
    return result


def _draw_motion_blur(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    angle, length = rng.uniform(0, 2 * np.pi), 0.13 * strength * min(image.shape[:2])
    return blur_along(image, length * np.array([np.cos(angle), np.sin(angle)]))


def _draw_defocus(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    return defocus(image, 0.03 * strength * min(image.shape[:2]))


def _draw_noise(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    grain = max(min(image.shape[:2]) / 40, 2)
    return add_noise(rng, image, sigma=50 * strength, grain=grain)


def _draw_compression(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    return compress(image, shrink=strength * min(image.shape[:2]) / 65, strength=strength)


def _draw_darkness(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    return darken(image, gain=1 - 0.8 * min(strength, 1.0))


def _draw_occlusion(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    side = max(int(0.35 * strength * min(height, width)), 1)
    w, h = (min(max(int(side * rng.uniform(0.4, 1.0)), 1), limit) for limit in (width, height))
    x1, y1 = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return occlude(rng, image, (x1, y1, x1 + w, y1 + h))


DETERIORATIONS: dict[str, Callable[[np.random.Generator, np.ndarray, float], np.ndarray]] = {
    "motion_blur": _draw_motion_blur,
    "defocus": _draw_defocus,
    "noise": _draw_noise,
    "compression": _draw_compression,
    "occlusion": _draw_occlusion,
    "darkness": _draw_darkness,
}
"""Whole-frame deteriorations by name; strength 1 is that of MovingShapes' frames."""


def deteriorate(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    kinds: Sequence[str] = tuple(DETERIORATIONS),
    strength: tuple[float, float] = (0.4, 1.1),
) -> np.ndarray:
    """Spoil an image by one kind of deterioration, drawn evenly, of a strength drawn evenly.

    Half of the time only a region of it is spoilt, between a quarter and all of each side, since
    in real video an object moves or leaves the focus while the rest stays sharp.

    Args:
        image: uint8 [H, W, 3].
        rng: draws kind, strength, region and pixels.
        kinds: of `DETERIORATIONS`.
        strength: least and largest; 1 is that of MovingShapes' frames.

    Returns:
        A new uint8 image [H, W, 3].

    Raises:
        ValueError: for an unknown kind or a range of strengths that is none.
    """
    unknown = [kind for kind in kinds if kind not in DETERIORATIONS]
    if unknown or not kinds:
        known = ", ".join(DETERIORATIONS)
        raise ValueError(f"deteriorations must be some of {known}, got {list(kinds)}")
    least, largest = strength
    if not 0 <= least <= largest:
        raise ValueError(f"the strength must be a range from 0 on, got {strength}")
    spoil = DETERIORATIONS[str(rng.choice(list(kinds)))]
    amount = float(rng.uniform(least, largest))
    result = image.astype(np.float32)
    height, width = image.shape[:2]
    rows, columns = slice(0, height), slice(0, width)
    if rng.random() < 0.5:
        h, w = (max(int(side * rng.uniform(0.25, 1.0)), 1) for side in (height, width))
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        rows, columns = slice(y, y + h), slice(x, x + w)
    result[rows, columns] = spoil(rng, result, amount)[rows, columns]
    return np.clip(np.round(result), 0, 255).astype(np.uint8)
