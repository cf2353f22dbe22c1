"""Flow fields as colours: the colour wheel of the Middlebury optical flow benchmark."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

# Number of steps from one hue to the next: red, yellow, green, cyan, blue, magenta, red.
# Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011.
_STEPS = {"RY": 15, "YG": 6, "GC": 4, "CB": 11, "BM": 13, "MR": 6}


@lru_cache(maxsize=1)
def color_wheel() -> np.ndarray:
    """Return 55 colours of the wheel, RGB, uint8 [55, 3], from red over green and blue back to red.

    On each arc one channel stays at 255, one at 0, and one runs between them in equal steps,
    upwards where a colour is added (RY, GC, BM) and downwards where one is taken away.
    """
    arcs = []
    for (name, steps), (full, moving, rises) in zip(
        _STEPS.items(),
        [(0, 1, True), (1, 0, False), (1, 2, True), (2, 1, False), (2, 0, True), (0, 2, False)],
        strict=True,
    ):
        arc = np.zeros((_STEPS[name], 3), dtype=np.uint8)
        ramp = np.arange(steps) * 255 // steps
        arc[:, full] = 255
        arc[:, moving] = ramp if rises else 255 - ramp
        arcs.append(arc)
    wheel = np.concatenate(arcs)
    wheel.setflags(write=False)
    return wheel


def flow_magnitude(flow: np.ndarray) -> np.ndarray:
    """Length of each displacement of a flow [2, H, W] or [H, W, 2], as float64 [H, W]."""
    dx, dy = _components(flow)
    return np.hypot(dx, dy)


def flow_to_color(flow: np.ndarray, max_magnitude: float | None = None) -> np.ndarray:
    """Picture a flow field: hue is the direction, saturation the length, white is no motion.

    Displacements longer than `max_magnitude` are darkened, unknown ones (NaN or infinite) black.

    Args:
        flow: displacements (dx to the right, dy downwards), [2, H, W] or [H, W, 2]; read as
            [2, H, W] where both fit.
        max_magnitude: length drawn in full saturation, in the unit of the flow; by default the
            longest displacement of this field.

    Returns:
        uint8 BGR image [H, W, 3].

    Raises:
        ValueError: if the shape does not fit, or `max_magnitude` is not positive and finite.
    """
    dx, dy = _components(flow)
    magnitude = np.hypot(dx, dy)
    known = np.isfinite(magnitude)
    if max_magnitude is None:
        max_magnitude = float(magnitude[known].max(initial=0.0)) or 1.0
    elif not (np.isfinite(max_magnitude) and max_magnitude > 0):
        raise ValueError(
            f"max_magnitude must be positive and finite, got {max_magnitude}; "
            "leave it out to scale by the longest displacement"
        )
    dx, dy = np.where(known, dx, 0.0), np.where(known, dy, 0.0)
    saturation = np.where(known, magnitude, 0.0) / max_magnitude

    wheel = color_wheel().astype(np.float64) / 255
    # Adding 0.0 turns -0.0 into 0.0, which arctan2 would take for the other side of its cut.
    turn = (np.arctan2(-(dy + 0.0), -(dx + 0.0)) / np.pi + 1) / 2
    position = turn * (len(wheel) - 1)
    lower = np.floor(position).astype(np.int64)
    fraction = (position - lower)[..., None]
    hue = (1 - fraction) * wheel[lower] + fraction * wheel[(lower + 1) % len(wheel)]

    saturation = saturation[..., None]
    # The tolerance keeps the longest displacement itself from being darkened by rounding.
    inside = saturation <= 1 + 1e-9
    color = np.where(inside, 1 - saturation * (1 - hue), 0.75 * hue)
    color[~known] = 0.0
    return np.ascontiguousarray(np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8)[..., ::-1])


def color_wheel_legend(size: int) -> np.ndarray:
    """Draw the wheel as a disc: a point of it has the colour of the flow from the centre to there.

    Args:
        size: width and height in pixels, at least 8.

    Returns:
        uint8 BGR image [size, size, 3]: the disc with a thin dark rim on white.
    """
    if size < 8:
        raise ValueError(f"the legend must be at least 8 pixels wide, got {size}")
    # Drawn enlarged and averaged down, so that the rim is smooth.
    fine = size * 4
    radius = (fine - 1) / 2
    dx, dy = np.meshgrid(np.arange(fine) - radius, np.arange(fine) - radius, indexing="xy")
    distance = np.hypot(dx, dy)
    disc = flow_to_color(np.stack([dx, dy]), max_magnitude=radius)
    disc[distance > radius - 4] = 70
    disc[distance > radius] = 255
    return cv2.resize(disc, (size, size), interpolation=cv2.INTER_AREA)


def _components(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    field = np.asarray(flow, dtype=np.float64)
    if field.ndim == 3 and field.shape[0] == 2:
        return field[0], field[1]
    if field.ndim == 3 and field.shape[2] == 2:
        return field[..., 0], field[..., 1]
    raise ValueError(f"a flow must have shape [2, H, W] or [H, W, 2], got {list(field.shape)}")
