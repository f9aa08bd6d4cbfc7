"""The files of a matrix from runs that other tools made: metrics, curves, summary and report, with what is missing said."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.compare.comparison import column, policy_estimate
from reports.files.metrics import write_matrix_files, write_run_files
from reports.files.report import write_report
from reports.foreign.convert import Placed, benchmark_name, place, write_runs
from reports.foreign.detect import find_runs
from reports.foreign.gaps import beta_of, gaps
from reports.foreign.sources import read_object
from reports.page.text import visible
from reports.runs.arms import arm_of, arms
from reports.runs.records import MatrixData, ReportError, Scores, load_matrix
from reports.schema import Summary
from reports.statistics.intervals import welch
from reports.writing import jsonable, write_json

#: Marks a directory that may be written over, and lists the runs in it.
MARKER = "sources.json"
MATRIX_FILES = ("matrix.json", "matrix.yaml")
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
    config = {"report": {"baseline": base}}
    for run_id in run_ids:
        write_run_files(output / "runs" / run_id)
    summary = write_matrix_files(output, run_ids, config).plain()
    matrix = load_matrix(output, run_ids, config)
    _explain(summary, matrix, placed, pairing)
    if baseline is None and summary["baseline"]["value"] and not summary["baseline"]["note"]:
        chosen = (
            "named fixed" if base == "fixed" else "the first run with scored documents; --baseline NAME takes another"
        )
        summary["baseline"]["note"] = chosen
    write_json(output / "summary.json", summary)
    typed = Summary.model_validate(summary)
    write_report(output, run_ids, config, typed)
    return typed


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


def _explain(summary: dict[str, Any], matrix: MatrixData, placed: Sequence[Placed], pairing: Sequence[str]) -> None:
    """Add `foreign` to the summary, and words for what a comparison without seeds says."""
    names = arm_of(arms(matrix.runs))
    shown = {r.run_id: names[r.run_id] + ("" if r.seed is None else f", seed {r.seed}") for r in matrix.runs}
    summary["foreign"] = jsonable(
        {
            "sources": [_source(p, run, shown[run.run_id]) for p, run in zip(placed, matrix.runs, strict=True)],
            "gaps": gaps(matrix, placed, shown),
            "pairing": list(pairing),
            "unpaired": _unpaired(matrix, placed, shown, summary["baseline"]["value"]),
        }
    )
    if any(p.run.own is None for p in placed):
        for entry in summary["checklist"]:
            if entry["name"] in _UNKNOWN:
                entry |= {"state": "missing", "evidence": _UNKNOWN[entry["name"]]}
    for metric in summary["metrics"]:
        finished = {
            m["label"] for m in metric["methods"] if all(a["state"] in ("done", "running") for a in m["absent"])
        }
        for comparison in metric["comparisons"]:
            if comparison["seeds"] == [None]:
                comparison["verdict"]["sentence"] = _checkpoints(comparison, metric)
            elif comparison["verdict"]["code"] == "no_data" and comparison["label"] in finished:
                comparison["verdict"]["sentence"] = (
                    f"{comparison['label']} against {comparison['against']} on {metric['benchmark']}/{metric['metric']}: "
                    "no document with scores of both, so nothing can be paired."
                )
            else:
                continue
            if comparison["family"] == "declared":  # the primary metric against the baseline: one sentence a method
                for sentence in summary["verdict"]["sentences"]:
                    if sentence["label"] == comparison["label"]:
                        sentence["sentence"] = comparison["verdict"]["sentence"]
    if not summary["verdict"]["sentences"]:
        summary["verdict"]["headline"] = _without_comparison(summary)
    elif any(c["seeds"] == [None] for m in summary["metrics"] for c in m["comparisons"]):
        summary["verdict"]["headline"] = (
            "Single checkpoints are compared, on the documents that both answered. Without several seeds of each method "
            "nothing can be said about the methods."
        )


def _without_comparison(summary: Mapping[str, Any]) -> str:
    count = len(summary["runs"])
    runs = "One run was" if count == 1 else f"{count} runs were"
    if summary["foreign"]["unpaired"]:
        return f"{runs} read. No documents could be paired; the unpaired intervals below are all that can be said."
    if summary["metrics"]:
        return f"{runs} read. The scores have nothing to be compared with."
    return f"{runs} read. There are no scores, so nothing is said about which policy is better."


def _source(placed: Placed, run: Any, label: str) -> dict[str, Any]:
    found = placed.run
    return {
        "run_id": run.run_id,
        "label": label,
        "directory": visible(str(found.directory)),
        "formats": found.formats,
        "files": [_below(f, found.directory) for f in found.files],
        "logged_steps": len(run.steps),
        "columns": {column: visible(name) for column, name in found.synonyms.items()},
        "beta": beta_of(run),
        "training_seed": placed.known_seed,
        "tasks": {task: len(s.items) for task, s in found.scores.items()}
        or {name: len(s.items) for name, s in run.scores.items()},
        "results": found.results,
        "notes": [visible(n) for n in found.notes],
    }


def _below(path: Path, directory: Path) -> str:
    return visible(str(path.relative_to(directory)) if path.is_relative_to(directory) else path.name)


def _checkpoints(comparison: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """What one pair of checkpoints shows: the prompt-level comparison in words."""
    found = comparison["checkpoints"][0]
    difference, test = found["difference"], found["test"]
    name = f"{metric['benchmark']}/{metric['metric']}"
    low, high = difference["low"], difference["high"]
    span = "" if low is None else f" (95 % interval {low:+.3f} to {high:+.3f})"
    p = "" if not test or test["p_value"] is None else f", {test['method']} p = {test['p_value']:.3g}"
    return (
        f"{comparison['label']} against {comparison['against']} on {name}, two checkpoints paired over {found['n']} "
        f"documents: {difference['value']:+.3f}{span}{p}; {found['wins']} higher, {found['ties']} equal, "
        f"{found['losses']} lower. Another training run may differ: there are no seeds."
    )


def _level(scores: Scores | None, metric: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Mean, standard error and count of one run on one metric: from its documents, else as lm-eval reported it."""
    if scores is not None:
        found = column(scores, name, None)
        if found.values:
            estimate = policy_estimate(found)
            reported = scores.metrics.get(name, {})
            error = estimate.stderr if estimate.stderr is not None else reported.get("stderr")
            return {"value": estimate.estimate, "stderr": error, "n": estimate.n, "ids": set(found.values)}
    if metric is None or metric.get("value") is None:
        return None
    return {"value": metric["value"], "stderr": metric.get("stderr"), "n": metric.get("n"), "ids": set()}


def _unpaired(
    matrix: MatrixData, placed: Sequence[Placed], shown: Mapping[str, str], baseline: str | None
) -> list[dict[str, Any]]:
    """Per task and metric: each run's own level where no samples are, and its unpaired difference to the baseline."""
    levels: dict[tuple[str, str], list[tuple[str, str, dict[str, Any]]]] = {}
    labels = arm_of(arms(matrix.runs))
    for run, one in zip(matrix.runs, placed, strict=True):
        reported = {benchmark_name(task): s.metrics for task, s in one.run.scores.items()}
        for benchmark in {**reported, **run.scores}:
            scores = run.scores.get(benchmark)
            known = scores.metrics if scores is not None else reported[benchmark]
            for name in known:
                level = _level(scores, known[name], name)
                if level is not None:
                    levels.setdefault((benchmark, name), []).append((run.run_id, labels[run.run_id], level))
    rows = []
    for (benchmark, name), found in levels.items():
        against = next((f for f in found if f[1] == baseline), None)
        for run_id, label, level in found:
            paired = against is not None and (label == baseline or bool(level["ids"] & against[2]["ids"]))
            if level["ids"] and (paired or against is None):
                continue
            row = {
                "benchmark": benchmark,
                "metric": name,
                "label": shown[run_id],
                "value": level["value"],
                "stderr": level["stderr"],
                "n": level["n"],
                "against": None,
                "difference": None,
                "reason": "samples were not kept" if not level["ids"] else "no document in common with the baseline",
            }
            if against is not None and label != baseline:
                other = against[2]
                row["against"] = shown[against[0]]
                row["difference"] = welch(
                    (level["value"], other["value"]), (level["stderr"], other["stderr"]), (level["n"], other["n"])
                ).as_dict()
                if level["ids"] and not other["ids"]:
                    row["reason"] = "the baseline's samples were not kept"
            rows.append(row)
    return rows
