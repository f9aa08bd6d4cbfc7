"""The files of a matrix from runs that other tools made: metrics, curves, summary and report, with what is missing said."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.compare.comparison import column, policy_estimate
from reports.files.metrics import write_run_files
from reports.files.report import write_files
from reports.foreign.convert import Placed, benchmark_name, place, write_runs
from reports.foreign.detect import find_runs
from reports.foreign.gaps import beta_of, gaps
from reports.foreign.sources import read_object
from reports.page.text import visible
from reports.runs import MatrixData, ReportError, RunData, arm_of, arms, load_matrix
from reports.schema import Foreign, ForeignSource, Summary, UnpairedScore
from reports.statistics.intervals import welch
from reports.writing import write_json

#: Marks a directory that may be written over, and lists the runs in it.
MARKER = "sources.json"
MATRIX_FILES = ("matrix.json", "matrix.yaml")
_BARE = "samples were not kept"
#: Checks that a matrix passes by what it planned; of runs made elsewhere only those that were named are known.
_UNKNOWN = {
    "Equal tuning budget": "how many settings were tried for each method is not recorded",
    "Failed runs listed": "only the runs that were named are known; whether others failed is not recorded",
}


def analyse(named: Sequence[Path], output: Path, baseline: str | None = None) -> Summary:
    """Read the runs in the named folders and write the files of a matrix into `output`; returns the summary.

    The summary has one key more than a matrix's: `foreign`, with what was read, what is missing and the intervals that
    could not be paired. Without `baseline` the run named `fixed` is it, else the first one found.

    Raises:
        ReportError: nothing to read, a damaged file, an unknown baseline, or an output directory with other things.
    """
    before = claim(named, output)
    placed, base = place(find_runs(named, skip=output), baseline)
    for run_id in before - {p.run_id for p in placed}:
        shutil.rmtree(output / "runs" / run_id, ignore_errors=True)
    run_ids = [p.run_id for p in placed]
    write_json(output / MARKER, {"schema_version": 1, "runs": run_ids})
    pairing = write_runs(placed, output)
    for run_id in run_ids:
        write_run_files(output / "runs" / run_id)
    matrix = load_matrix(output, run_ids, {"report": {"baseline": base}})
    how = "named fixed" if base == "fixed" else "the first run with scored documents; --baseline NAME takes another"

    def amend(summary: Summary) -> Summary:
        found = summary.baseline
        if baseline is None and found.value and not found.note:
            found = found.model_copy(update={"note": how})
        foreign = _foreign(matrix, placed, pairing, found.value)
        return _explained(summary.model_copy(update={"baseline": found, "foreign": foreign}), placed)

    return write_files(matrix, amend=amend)


def claim(named: Sequence[Path], output: Path) -> set[str]:
    """The runs that an earlier analysis left in `output`. ReportError where it holds anything else."""
    for path in named:
        if path.exists() and (output.resolve() == path.resolve() or output.resolve() in path.resolve().parents):
            raise ReportError(f"--output {output} is or holds {path}, which is to be read; give another --output")
    if not output.exists():
        return set()
    if not output.is_dir():
        raise ReportError(f"--output {output} is a file; give a directory")
    inside = {p.name for p in output.iterdir() if not p.name.startswith(".")}
    if MARKER in inside and not inside & set(MATRIX_FILES):
        runs = read_object(output / MARKER).get("runs")
        return {str(r) for r in runs if str(r) == Path(str(r)).name} if isinstance(runs, list) else set()
    if inside:
        raise ReportError(f"--output {output} holds files that are no earlier analysis; give an empty directory")
    return set()


def _foreign(matrix: MatrixData, placed: Sequence[Placed], pairing: list[str], baseline: str | None) -> Foreign:
    """What was read, what is missing, and what could not be paired."""
    names = arm_of(arms(matrix.runs))
    shown = {r.run_id: names[r.run_id] + ("" if r.seed is None else f", seed {r.seed}") for r in matrix.runs}
    return Foreign(
        sources=[_source(p, run, shown[run.run_id]) for p, run in zip(placed, matrix.runs, strict=True)],
        gaps=gaps(matrix, placed, shown),
        pairing=pairing,
        unpaired=_unpaired(matrix, placed, names, shown, baseline),
    )


def _explained(summary: Summary, placed: Sequence[Placed]) -> Summary:
    """The summary in words that a comparison without seeds, of runs that nobody planned, can stand behind."""
    said, checks, count = summary.verdict.answer, summary.checklist, len(summary.runs)
    if not any(row.difference.value is not None for row in summary.inference.rows):
        lacks = "No scores were found, so the report does not compare policies."
        if summary.foreign and summary.foreign.unpaired:
            lacks = "No documents could be paired; the unpaired intervals below are all that can be said."
        elif summary.metrics:
            lacks = "The scores have nothing to be compared with."
        said = [f"{'One run was' if count == 1 else f'{count} runs were'} read. {lacks}"]
    elif any(c.seeds == [None] for metric in summary.metrics for c in metric.comparisons):
        said = [
            "Single checkpoints are compared, on the documents that both answered: without several seeds of each method "
            "nothing can be said about the methods."
        ]
    if any(p.run.own is None for p in placed):
        missing = {name: {"state": "missing", "evidence": why} for name, why in _UNKNOWN.items()}
        checks = [check.model_copy(update=missing.get(check.name, {})) for check in checks]
    verdict = summary.verdict.model_copy(update={"answer": said})
    return summary.model_copy(update={"checklist": checks, "verdict": verdict})


def _source(placed: Placed, run: RunData, label: str) -> ForeignSource:
    found, directory = placed.run, placed.run.directory
    files = (str(f.relative_to(directory)) if f.is_relative_to(directory) else f.name for f in found.files)
    tasks = {task: len(scores.items) for task, scores in found.scores.items()}
    return ForeignSource(
        run_id=run.run_id,
        label=label,
        directory=visible(str(directory)),
        formats=found.formats,
        files=list(map(visible, files)),
        logged_steps=len(run.steps),
        columns={column: visible(name) for column, name in found.synonyms.items()},
        beta=beta_of(run),
        training_seed=placed.known_seed,
        tasks=tasks or {name: len(scores.items) for name, scores in run.scores.items()},
        results=found.results,
        notes=list(map(visible, found.notes)),
    )


def _unpaired(
    matrix: MatrixData,
    placed: Sequence[Placed],
    names: Mapping[str, str],
    shown: Mapping[str, str],
    baseline: str | None,
) -> list[UnpairedScore]:
    """Per task and metric: each run's own level where no samples are, and its unpaired difference to the baseline.

    A level is from the run's documents, else as lm-eval reported it.
    """
    levels: dict[tuple[str, str], dict[str, tuple[UnpairedScore, frozenset[str]]]] = defaultdict(dict)
    for run, one in zip(matrix.runs, placed, strict=True):
        metrics = {benchmark_name(task): scores.metrics for task, scores in one.run.scores.items()}
        metrics |= {benchmark: scores.metrics for benchmark, scores in run.scores.items()}
        for benchmark, name in ((benchmark, name) for benchmark, found in metrics.items() for name in found):
            value, error, n = (metrics[benchmark][name].get(key) for key in ("value", "stderr", "n"))
            documents = column(run.scores[benchmark], name, None) if benchmark in run.scores else None
            if documents and documents.values:
                own = policy_estimate(documents)
                value, error, n = own.value, error if own.stderr is None else own.stderr, own.n
            if value is not None:
                where = {"benchmark": benchmark, "metric": name, "label": shown[run.run_id]}
                level = UnpairedScore(
                    **where, value=value, stderr=error, n=n, against=None, difference=None, reason=_BARE
                )
                levels[benchmark, name][run.run_id] = level, frozenset(documents.values if documents else ())
    rows = []
    for of_metric in levels.values():
        base, base_ids = next((of_metric[i] for i in of_metric if names[i] == baseline), (None, frozenset()))
        for run_id, (level, ids) in of_metric.items():
            if ids and (base is None or level is base or ids & base_ids):
                continue  # it is paired
            changes: dict[str, Any] = {}
            if ids:
                changes["reason"] = "no document in common with the baseline"
            if base is not None and names[run_id] != baseline:
                pairs = ((level.value, base.value), (level.stderr, base.stderr), (level.n, base.n))
                changes |= {"against": base.label, "difference": welch(*pairs)}
                changes |= {"reason": "the baseline's samples were not kept"} if ids and not base_ids else {}
            rows.append(level.model_copy(update=changes))
    return rows
