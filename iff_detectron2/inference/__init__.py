"""A video from end to end: run, journal, output."""

from iff_detectron2.utils import needs_detectron2  # noqa: F401

from .rescoring import RescoredFile, rescore_predictions

__all__ = ["RescoredFile", "rescore_predictions"]
