"""analyze: metrics, curves, summary and report of runs that other tools made (needs no torch)."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_ANALYSIS = "output/analysis"

_EPILOG = """reads
  trainer_state.json   Trainer, TRL; also in checkpoint-N, the newest counts
  trainer_log.jsonl    LLaMA-Factory; with all_results.json, training_args.yaml
  *.csv                with a step and a loss column; exported charts of W&B
  results_*.json and samples_*.jsonl of lm-eval (--log_samples)
  log_history.json(l), logs.jsonl: saved log records
  run directories of this project

A folder named ...-seed3 is seed 3 of the method before it. Runs whose seeds do
not pair are compared one by one, as checkpoints.

examples:
  python -m harness analyze saves/dpo saves/foodpo
  python -m harness analyze dpo-seed0 dpo-seed1 new-seed0 --baseline dpo"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "directories", type=Path, nargs="+", metavar="DIR", help="a run, a folder of runs, or a CSV file"
    )
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_ANALYSIS), help="default: %(default)s")
    parser.add_argument(
        "--baseline", metavar="NAME", help="compare with this run or method; default: fixed, or the first"
    )


def run(options: argparse.Namespace) -> int:
    """Write the files and print what they say and what is missing."""
    from harness.commands.runs.run_matrix import _short
    from harness.state.lock import output_lock
    from reports.foreign.analysis import analyse, claim
    from reports.page.terminal import print_summary
    from reports.runs.records import ReportError
    from trainers.common.errors import UserError

    try:
        claim(options.directories, options.output)  # before a lock file is put where it does not belong
        with output_lock(options.output):
            summary = analyse(options.directories, options.output, options.baseline)
    except ReportError as error:
        raise UserError(str(error)) from None
    print_summary(options.output)
    _print_gaps(summary.plain()["foreign"])
    print(f"report: {_short(options.output / 'report.html')}")
    return 0


def _print_gaps(foreign: dict) -> None:
    from rich.console import Console
    from rich.markup import escape

    out = Console(highlight=False)
    out.print("\nMissing from these runs:")
    for gap in foreign["gaps"]:
        runs = "" if gap["all"] else f" ({'; '.join(gap['runs'])})"
        out.print(f"- {escape(gap['what'])}{escape(runs)}: {escape(gap['means'])}.")
    for note in foreign["pairing"]:
        out.print(f"- careful: {escape(note)}.")
