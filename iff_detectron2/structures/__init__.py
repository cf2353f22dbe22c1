"""Plain data structures shared by the data pipeline and the models."""

from .window import TemporalWindow

__all__ = ["TemporalWindow"]
