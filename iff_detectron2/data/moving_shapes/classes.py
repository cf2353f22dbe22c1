"""The classes of MovingShapes: pairs that share an outline and differ inside.

Every object takes its two colours at random, so that colour tells nothing, and each outline
belongs to two classes, so that the inner structure has to be seen.
"""

from __future__ import annotations

MOVING_SHAPES_CLASSES: tuple[str, ...] = (
    "ringed_disc",
    "pinwheel_disc",
    "striped_square",
    "checkered_square",
    "dotted_triangle",
    "framed_triangle",
    "banded_capsule",
    "cored_capsule",
)
