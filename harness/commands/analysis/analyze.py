"""analyze: metrics, curves, summary and report of runs that other tools made (needs no torch)."""

import argparse

from rich.console import Console
from rich.markup import escape

from harness.commands.options import short
from harness.state import output_lock
from reports.foreign.analysis import analyse, claim
from reports.page.first import print_summary
from trainers.common import Json


def run(options: argparse.Namespace) -> int:
    """Write the files and print what they say and what is missing."""
    claim(options.directories, options.output)  # before a lock file is put where it does not belong
    with output_lock(options.output):
        summary = analyse(options.directories, options.output, options.baseline)
    print_summary(options.output)
    _print_gaps(summary.plain()["foreign"])
    print(f"report: {short(options.output / 'report.html')}")
    return 0


def _print_gaps(foreign: Json) -> None:
    out = Console(highlight=False)
    out.print("\nMissing from these runs:")
    for gap in foreign["gaps"]:
        runs = "" if gap["all"] else f" ({'; '.join(gap['runs'])})"
        out.print(f"- {escape(gap['what'])}{escape(runs)}: {escape(gap['means'])}.")
    for source in foreign["sources"]:
        for note in source["notes"]:
            out.print(f"- {escape(source['label'])}: {escape(note)}.")
    for note in foreign["pairing"]:
        out.print(f"- careful: {escape(note)}.")
