"""The files of a matrix from runs that other tools made: metrics, curves, summary and report, with what is missing said."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from reports.compare.comparison import column, policy_estimate
from reports.files.metrics import write_run_files
from reports.files.report import write_files
from reports.foreign.convert import benchmark_name, place, write_runs
from reports.foreign.detect import find_runs
from reports.foreign.gaps import beta_of, gaps
from reports.foreign.sources import ForeignRun, read_object
from reports.page.text import visible
from reports.runs import ReportError, RunData, arm_of, arms, load_matrix
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
    found = find_runs(named, skip=output)
    base = place(found, baseline)
    run_ids = [run.run_id for run in found]
    for run_id in before - set(run_ids):
        shutil.rmtree(output / "runs" / run_id, ignore_errors=True)
    write_json(output / MARKER, {"schema_version": 1, "runs": run_ids})
    pairing = write_runs(found, output)
    for run_id in run_ids:
        write_run_files(output / "runs" / run_id)
    matrix = load_matrix(output, run_ids, {"report": {"baseline": base}})
    how = "named fixed" if base == "fixed" else "the first run with scored documents; --baseline NAME takes another"
    names = arm_of(arms(matrix.runs))
    shown = {r.run_id: names[r.run_id] + ("" if r.seed is None else f", seed {r.seed}") for r in matrix.runs}
    pairs = list(zip(found, matrix.runs, strict=True))

    def amend(summary: Summary) -> Summary:
        against = summary.baseline
        if baseline is None and against.value and not against.note:
            against = against.model_copy(update={"note": how})
        foreign = Foreign(
            sources=[_source(read, run, shown[run.run_id]) for read, run in pairs],
            gaps=gaps(pairs, shown),
            pairing=pairing,
            unpaired=_unpaired(pairs, names, shown, against.value),
        )
        return _explained(summary.model_copy(update={"baseline": against, "foreign": foreign}), found)

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


def _explained(summary: Summary, found: Sequence[ForeignRun]) -> Summary:
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
    if any(run.own is None for run in found):
        missing = {name: {"state": "missing", "evidence": why} for name, why in _UNKNOWN.items()}
        checks = [check.model_copy(update=missing.get(check.name, {})) for check in checks]
    verdict = summary.verdict.model_copy(update={"answer": said})
    return summary.model_copy(update={"checklist": checks, "verdict": verdict})


def _source(read: ForeignRun, run: RunData, label: str) -> ForeignSource:
    files = (str(f.relative_to(read.directory)) if f.is_relative_to(read.directory) else f.name for f in read.files)
    tasks = {task: len(scores.items) for task, scores in read.scores.items()}
    return ForeignSource(
        run_id=run.run_id,
        label=label,
        directory=visible(str(read.directory)),
        formats=read.formats,
        files=list(map(visible, files)),
        logged_steps=len(run.steps),
        columns={column: visible(name) for column, name in read.synonyms.items()},
        beta=beta_of(run),
        training_seed=read.known_seed,
        tasks=tasks or {name: len(scores.items) for name, scores in run.scores.items()},
        results=read.results,
        notes=list(map(visible, read.notes)),
    )


#: Mean, standard error and number of documents of one run, and the documents' ids; none where only the mean was kept.
_Level = tuple[float, float | None, int | None, frozenset[str]]


def _unpaired(
    pairs: Sequence[tuple[ForeignRun, RunData]],
    names: Mapping[str, str],
    shown: Mapping[str, str],
    baseline: str | None,
) -> list[UnpairedScore]:
    """Per task and metric: each run's own level where no samples are, and its unpaired difference to the baseline.

    A level is from the run's documents, else as lm-eval reported it.
    """
    levels: dict[tuple[str, str], dict[str, _Level]] = defaultdict(dict)
    for read, run in pairs:
        metrics = {benchmark_name(task): scores.metrics for task, scores in read.scores.items()}
        metrics |= {benchmark: scores.metrics for benchmark, scores in run.scores.items()}
        for benchmark, name in ((benchmark, name) for benchmark, known in metrics.items() for name in known):
            value, error, n = (metrics[benchmark][name].get(key) for key in ("value", "stderr", "n"))
            documents = column(run.scores[benchmark], name, None) if benchmark in run.scores else None
            if documents and documents.values:
                own = policy_estimate(documents)
                value, error, n = own.value, error if own.stderr is None else own.stderr, own.n
            if value is not None:
                ids = frozenset(documents.values if documents else ())
                levels[benchmark, name][run.run_id] = value, error, n, ids
    rows = []
    for (benchmark, metric), of_metric in levels.items():
        base = next((run_id for run_id in of_metric if names[run_id] == baseline), None)
        for run_id, (value, error, n, ids) in of_metric.items():
            reason = "no document in common with the baseline" if ids else _BARE
            against, difference = None, None
            if base is not None:
                mean, spread, count, base_ids = of_metric[base]
                if ids & base_ids:
                    continue  # it is paired
                if names[run_id] != baseline:
                    against, difference = shown[base], welch((value, mean), (error, spread), (n, count))
                    reason = "the baseline's samples were not kept" if ids and not base_ids else reason
            elif ids:
                continue
            rows.append(
                UnpairedScore(
                    benchmark=benchmark,
                    metric=metric,
                    label=shown[run_id],
                    value=value,
                    stderr=error,
                    n=n,
                    against=against,
                    difference=difference,
                    reason=reason,
                )
            )
    return rows
