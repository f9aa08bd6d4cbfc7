"""report: make the report again from what is on disk (needs no torch)."""

import argparse

from harness.commands.options import short
from harness.stages.report import build
from harness.state import frozen_matrix, output_lock
from reports.page.first import print_summary
from reports.runs.records import ReportError
from trainers.common import UserError


def run(options: argparse.Namespace) -> int:
    """Write the report of an output directory and print what it says."""
    frozen = frozen_matrix(options.output)
    with output_lock(options.output):
        try:
            path = build(options.output, frozen.runs, frozen.config)
        except ReportError as error:
            raise UserError(f"{error}; delete the file and run the matrix again to regenerate it") from None
    print_summary(options.output)
    print(f"report: {short(path)}")
    return 0
