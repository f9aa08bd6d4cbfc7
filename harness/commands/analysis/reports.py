"""Verbs that write pages: report, compare and analyze. None needs torch."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.commands.options import DEFAULT_OUTPUT, print_json, short
from harness.config import refuse
from harness.stages.report import build
from harness.state import frozen_matrix, output_lock
from reports.files.report import write_files
from reports.foreign.analysis import analyse, claim
from reports.page.first import print_summary
from reports.runs.arms import arms
from reports.runs.records import ReportError
from reports.runs.subset import Source, as_matrix, carry, choose, read_source
from reports.schema import Summary
from reports.verdict.over_matrices import over_matrices
from trainers.common import Json, UserError


def report(options: argparse.Namespace) -> int:
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


def compare(options: argparse.Namespace) -> int:
    """Write the report of the runs and print what it says."""
    subset = choose(options.runs, _sources(options))
    said_of = f"--output {options.output}"
    taken = any((options.output / name).exists() for name in ("matrix.json", "runs"))
    refuse(
        *(
            (
                options.output.resolve() == source.root.resolve(),
                f"{said_of}: the runs lie there; give another directory",
            )
            for source in subset.sources
        ),
        (taken, f"{said_of}: contains a matrix; give another directory"),
    )
    matrix, said = as_matrix(subset, options.output, options.baseline, options.primary)
    with output_lock(options.output):
        carry(subset, options.output)

        def amend(made: Summary) -> Summary:
            methods = list(dict.fromkeys(run.method for run in matrix.runs))
            label = made.baseline.value
            base = next((arm.method for arm in arms(matrix.runs) if arm.label == label), label)
            found = over_matrices(subset.sources, methods, base, made.primary.value)
            said.notes.extend(one.sentence for one in found)
            return made.model_copy(update={"subset": said, "over_matrices": found})

        summary = write_files(matrix, amend=amend)
        path = options.output / "report.html"
    if options.json:
        places = {"report": str(path), "summary": str(options.output / "summary.json")}
        print_json({**summary.plain(), **places}, ensure_ascii=False)
        return 0
    print_summary(options.output)
    for note in said.notes:
        print(f"- {note}")
    print(f"report: {short(path)}")
    return 0


def _sources(options: argparse.Namespace) -> list[Source]:
    if options.sources is None and all(Path(name).is_dir() for name in options.runs):
        return []
    default = Path(DEFAULT_OUTPUT)
    refuse(
        *((not folder.is_dir(), f"--from {folder}: no such directory") for folder in options.sources or []),
        (
            options.sources is None and not (default / "runs").is_dir(),
            f"{default} holds no runs; say with --from where they are, or name run directories",
        ),
    )
    return [read_source(folder) for folder in options.sources or [default]]


def analyze(options: argparse.Namespace) -> int:
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
