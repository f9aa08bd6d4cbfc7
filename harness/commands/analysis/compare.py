"""compare: the report of any finished runs, also of several output directories (needs no torch)."""

import argparse
import json
from pathlib import Path

from harness.commands.options import DEFAULT_OUTPUT, short
from harness.config import refuse
from harness.state import output_lock
from reports.files.report import write_files
from reports.page.first import print_summary
from reports.runs.arms import arms
from reports.runs.subset import Source, as_matrix, carry, choose, read_source
from reports.schema import Summary
from reports.verdict.over_matrices import over_matrices
from trainers.common import Json


def run(options: argparse.Namespace) -> int:
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
        print(json.dumps(_shown(summary, options.output, path), indent=1, ensure_ascii=False))
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


def _shown(summary: Summary, output: Path, report: Path) -> Json:
    keys = ("name", "baseline", "primary", "counts", "verdict", "tests", "subset", "over_matrices")
    plain = summary.plain()
    places = {"report": str(report), "summary": str(output / "summary.json")}
    runs = [{key: run[key] for key in ("run_id", "label", "seed", "state")} for run in plain["runs"]]
    return {"schema_version": 1, **places, **{key: plain[key] for key in keys if key in plain}, "runs": runs}
