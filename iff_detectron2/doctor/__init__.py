"""Checks a dataset on disk before hours of training do."""

from .examination import examine
from .report import Finding, Report, format_report

__all__ = ["Finding", "Report", "examine", "format_report"]
