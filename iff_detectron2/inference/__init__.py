"""A video from end to end: run, journal, output, alignment panel."""

from .rescoring import RescoredFile, rescore_predictions

__all__ = ["RescoredFile", "rescore_predictions"]
