"""compare: the report of any finished runs, also of several output directories (needs no torch)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.cli import DEFAULT_OUTPUT

DEFAULT_COMPARISON = "output/comparison"

_EPILOG = """A RUN is a run id (its beginning will do), a method (all its runs), a label such
as foodpo[pref_beta_scale=0.3], or a run directory, in any output directory.

examples:
  python -m harness compare fixed foodpo
  python -m harness compare fixed-3cf7 foodpo-f69d --output out/two
  python -m harness compare fixed foodpo --from out/a --from out/b
  python -m harness compare out/a/runs/fixed-3cf7 out/b/runs/foodpo-f69d --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run id, label, method or run directory")
    parser.add_argument(
        "--from",
        dest="sources",
        type=Path,
        action="append",
        metavar="DIR",
        help=f"an output directory of run-matrix; may be given again; default: {DEFAULT_OUTPUT}",
    )
    parser.add_argument("--output", type=Path, default=Path(DEFAULT_COMPARISON), help="default: %(default)s")
    parser.add_argument(
        "--baseline", metavar="NAME", help="label or method to compare with; default: the matrix file's"
    )
    parser.add_argument("--primary", metavar="BENCHMARK/METRIC", help="default: the matrix file's")
    parser.add_argument("--json", action="store_true", help="one JSON object for scripts")


def run(options: argparse.Namespace) -> int:
    """Write the report of the runs and print what it says."""
    from harness.commands.runs.run_matrix import _short
    from harness.state.lock import output_lock
    from reports.files.report import write_files
    from reports.page.terminal import print_summary
    from reports.runs.records import ReportError
    from reports.runs.subset import as_matrix, carry, choose
    from trainers.common.errors import UserError

    try:
        subset = choose(options.runs, _sources(options))
        if any(options.output.resolve() == source.root.resolve() for source in subset.sources):
            raise UserError(f"--output {options.output}: the runs lie there; give another directory")
        if (options.output / "matrix.json").exists() or (options.output / "runs").exists():
            raise UserError(f"--output {options.output}: contains a matrix; give another directory")
        matrix, said = as_matrix(subset, options.output, options.baseline, options.primary)
        with output_lock(options.output):
            carry(subset, options.output)
            summary = write_files(matrix, amend=lambda made: made.model_copy(update={"subset": said}))
            path = options.output / "report.html"
    except ReportError as error:
        raise UserError(str(error)) from None
    if options.json:
        print(json.dumps(_shown(summary.plain(), options.output, path), indent=1, ensure_ascii=False))
        return 0
    print_summary(options.output)
    for note in said.notes:
        print(f"- {note}")
    print(f"report: {_short(path)}")
    return 0


def _sources(options: argparse.Namespace) -> list[Any]:
    from reports.runs.subset import read_source
    from trainers.common.errors import UserError

    for folder in options.sources or []:
        if not folder.is_dir():
            raise UserError(f"--from {folder}: no such directory")
    default = Path(DEFAULT_OUTPUT)
    only_folders = all(Path(name).is_dir() for name in options.runs)
    if options.sources is None and only_folders:
        return []
    if options.sources is None and not (default / "runs").is_dir():
        raise UserError(f"{default} holds no runs; say with --from where they are, or name run directories")
    return [read_source(folder) for folder in options.sources or [default]]


def _shown(summary: dict[str, Any], output: Path, report: Path) -> dict[str, Any]:
    keys = ("name", "baseline", "primary", "counts", "verdict", "tests", "subset")
    runs = [{k: r[k] for k in ("run_id", "label", "seed", "state")} for r in summary["runs"]]
    return {
        "schema_version": 1,
        "report": str(report),
        "summary": str(output / "summary.json"),
        **{k: summary[k] for k in keys},
        "runs": runs,
    }
