"""Writes a video detector as programs that run without it."""

from iff_detectron2.utils import needs_detectron2  # noqa: F401

from .write import ExportOptions, export_detector

__all__ = ["ExportOptions", "export_detector"]
