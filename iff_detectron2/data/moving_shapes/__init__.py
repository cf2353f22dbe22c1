"""MovingShapes: a generated video detection set in the layout of ImageNet VID."""

from .classes import MOVING_SHAPES_CLASSES
from .generate import generate_moving_shapes
from .options import MovingShapesOptions
from .outlines import moving_shapes_outlines
from .storage import find_complete

__all__ = [
    "MOVING_SHAPES_CLASSES",
    "MovingShapesOptions",
    "find_complete",
    "generate_moving_shapes",
    "moving_shapes_outlines",
]
