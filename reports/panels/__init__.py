"""Figures of the report, each drawn from the rows of its table."""

from reports.panels.all import all_panels
from reports.panels.base import Panel

__all__ = ["Panel", "all_panels"]
