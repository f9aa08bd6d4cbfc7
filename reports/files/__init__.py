"""Writes the files of a run, of many runs, and of a whole report."""

from reports.files.metrics import write_all, write_run_files
from reports.files.report import write_files, write_report

__all__ = ["write_all", "write_files", "write_report", "write_run_files"]
