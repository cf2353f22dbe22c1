"""What an object looks like: its outline, and the inner structure that makes its class."""

from __future__ import annotations

import cv2
import numpy as np

from .classes import MOVING_SHAPES_CLASSES
from .textures import fractal_noise, random_color

# Object coordinates: x to the right, y downwards, the outline inside [-1, 1] x [-1, 1].
_MARGIN = 3  # transparent sprite pixels around the outline, for interpolation
_CAPSULE_RADIUS = 0.5


def outline_of(category_id: int) -> str:
    """Name of the outline of a class: disc, square, triangle or capsule."""
    return MOVING_SHAPES_CLASSES[category_id].split("_")[1]


def outline_points(outline: str) -> np.ndarray:
    """Points on an outline whose convex hull is the outline, as (n, 2) object coordinates."""
    if outline == "square":
        return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
    if outline == "triangle":
        return np.array([(0, -1), (1, 1), (-1, 1)], np.float64)
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if outline == "disc":
        return circle
    straight = np.where(circle[:, :1] >= 0, 1 - _CAPSULE_RADIUS, _CAPSULE_RADIUS - 1)
    return circle * _CAPSULE_RADIUS + np.concatenate([straight, np.zeros_like(straight)], axis=1)


def _depth(outline: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline, positive inside."""
    if outline == "disc":
        return 1 - np.hypot(x, y)
    if outline == "square":
        return 1 - np.maximum(np.abs(x), np.abs(y))
    if outline == "triangle":
        return np.minimum(1 - y, ((y + 1) / 2 - np.abs(x)) * (2 / np.sqrt(5)))
    along = np.maximum(np.abs(x) - (1 - _CAPSULE_RADIUS), 0)
    return _CAPSULE_RADIUS - np.hypot(along, y)


def _structure(category_id: int, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Where the second colour of the class goes, as booleans."""
    name = MOVING_SHAPES_CLASSES[category_id]
    if name == "ringed_disc":
        return np.floor(np.hypot(x, y) * 4) % 2 == 1
    if name == "pinwheel_disc":
        return np.floor((np.arctan2(y, x) / np.pi + 1) * 3) % 2 == 1
    if name == "striped_square":
        return np.floor((x + 1) * 3) % 2 == 1
    if name == "checkered_square":
        return (np.floor((x + 1) * 2) + np.floor((y + 1) * 2)) % 2 == 1
    if name == "dotted_triangle":
        spacing = 0.5
        row = np.round((y - 0.7) / spacing)
        shift = (row % 2) * spacing / 2
        column = np.round((x - shift) / spacing)
        dx, dy = x - shift - column * spacing, y - 0.7 - row * spacing
        return (np.hypot(dx, dy) < 0.17) & (depth > 0.08)
    if name == "framed_triangle":
        return depth > 0.24
    if name == "banded_capsule":
        return np.floor((x + 1) * 3.5) % 2 == 1
    if name == "cored_capsule":
        return depth > 0.25
    raise ValueError(f"no inner structure is defined for class {name!r}")


class Sprite:
    """An object's picture in object coordinates, its face and its featureless back.

    Attributes:
        face: float32 (side, side, 4), BGR premultiplied by alpha in [0, 255], then alpha in [0, 1].
        back: the same with the mean colour in place of the inner structure.
        pixels_per_unit: sprite pixels in one unit of object coordinates.
    """

    def __init__(self, rng: np.random.Generator, category_id: int, *, diameter: float) -> None:
        """Draw an object of a class for use at about `diameter` pixels a side."""
        # Twice the size that it is shown at: the one resampling then stays free of aliasing.
        side = int(np.ceil(2 * diameter)) + 2 * _MARGIN
        self.pixels_per_unit = float(diameter)
        axis = (np.arange(side) - (side - 1) / 2) / diameter
        x, y = np.meshgrid(axis, axis)
        depth = _depth(outline_of(category_id), x, y)
        inside = _structure(category_id, x, y, depth)

        dark, bright = rng.uniform(15, 75), rng.uniform(175, 245)
        first, second = random_color(rng, dark, 70), random_color(rng, bright, 70)
        if rng.random() < 0.5:
            first, second = second, first
        face = np.where(inside[..., None], second, first).astype(np.float32)
        face = np.asarray(cv2.GaussianBlur(face, (0, 0), 0.8), np.float32)
        back = np.broadcast_to((first + second) / 2, face.shape)

        grain = fractal_noise(rng, (side, side), periods=(8, 4))
        light = rng.uniform(0, 2 * np.pi)
        shade = 1 + 0.12 * (x * np.cos(light) + y * np.sin(light))[..., None] + 0.06 * grain
        rim = np.where(depth < 1.6 * 2 / diameter, 0.55, 1.0)[..., None]
        alpha = np.clip(depth * diameter + 0.5, 0, 1)[..., None]
        self.face = self._pack(face * shade * rim, alpha)
        self.back = self._pack(back * (shade + 0.08 * grain) * rim, alpha)

    @staticmethod
    def _pack(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        color = np.clip(color, 0, 255) * alpha
        return np.concatenate([color, alpha], axis=2).astype(np.float32)

    def to_object(self) -> np.ndarray:
        """3x3 matrix from sprite pixels (x, y, 1) to object coordinates."""
        scale = 1 / self.pixels_per_unit
        shift = -(self.face.shape[0] - 1) / 2 * scale
        return np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]], np.float64)
