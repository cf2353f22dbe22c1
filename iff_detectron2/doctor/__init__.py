"""Checks a dataset on disk before hours of training do."""

from iff_detectron2.utils import needs_detectron2  # noqa: F401

from .examination import examine
from .report import Finding, Report, format_report

__all__ = ["Finding", "Report", "examine", "format_report"]
