"""Plain data structures shared by the data pipeline, the models and all that follows them."""

from .detections import NO_TRACK, Detections
from .ground_truth import GroundTruth
from .window import TemporalWindow

__all__ = ["NO_TRACK", "Detections", "GroundTruth", "TemporalWindow"]
