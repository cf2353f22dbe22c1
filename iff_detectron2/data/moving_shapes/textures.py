"""Random textures: backgrounds, occluders and the grain of surfaces."""

from __future__ import annotations

import cv2
import numpy as np


def fractal_noise(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    periods: tuple[int, ...] = (48, 24, 12, 6),
    channels: int = 1,
) -> np.ndarray:
    """Sum of smooth noise of several periods.

    Args:
        rng: source of randomness.
        size: width and height in pixels.
        periods: distance in pixels of the random nodes of each octave.
        channels: number of independent channels.

    Returns:
        float32 array of shape (height, width, channels), mean 0, standard deviation 1.
    """
    width, height = size
    total = np.zeros((height, width, channels), np.float32)
    for period in periods:
        nodes = rng.standard_normal((height // period + 4, width // period + 4, channels))
        smooth = cv2.resize(
            nodes.astype(np.float32),
            (nodes.shape[1] * period, nodes.shape[0] * period),
            interpolation=cv2.INTER_CUBIC,
        ).reshape(nodes.shape[0] * period, nodes.shape[1] * period, channels)
        # The rim of an enlarged grid repeats its outer nodes: cut it off.
        weight = np.float32((period / periods[0]) ** 0.5)
        total += weight * smooth[period : period + height, period : period + width]
    total -= total.mean(axis=(0, 1))
    return total / np.maximum(total.std(axis=(0, 1)), np.float32(1e-6))


def random_color(rng: np.random.Generator, luminance: float, chroma: float) -> np.ndarray:
    """Return a random BGR colour of a given luminance (0-255), off grey by about `chroma`.

    Args:
        rng: source of chance.
        luminance: grey level, 0 to 255.
        chroma: distance from grey.
    """
    offset = rng.uniform(-1, 1, 3) * chroma
    offset -= offset @ np.array([0.114, 0.587, 0.299])
    return np.clip(luminance + offset, 0, 255).astype(np.float32)


def background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a cluttered, textured landscape as a uint8 BGR image of the given (width, height)."""
    width, height = size
    relief = fractal_noise(rng, size)
    tint = fractal_noise(rng, size, periods=(64, 32), channels=3)
    base = random_color(rng, rng.uniform(85, 165), 45)
    image = base + relief * rng.uniform(14, 24) + tint * rng.uniform(8, 16)
    # Faint patches and lines, so that an edge alone does not give an object away.
    clutter = np.zeros((height, width, 3), np.float32)
    for _ in range(max(4, width * height // 5000)):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        shade = tuple(float(c) for c in rng.uniform(-34, 34, 3))
        if rng.random() < 0.5:
            axes = (int(rng.integers(5, 26)), int(rng.integers(5, 26)))
            cv2.ellipse(clutter, center, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1)
        else:
            reach = rng.uniform(-60, 60, 2)
            end = (int(center[0] + reach[0]), int(center[1] + reach[1]))
            cv2.line(clutter, center, end, shade, int(rng.integers(1, 5)))
    image += cv2.GaussianBlur(clutter, (0, 0), 0.8)
    image += rng.standard_normal((height, width, 1), dtype=np.float32) * 4
    return np.clip(image, 0, 255).astype(np.uint8)
