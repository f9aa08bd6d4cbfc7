"""What the judges of a matrix found: win rates by method, from the comparisons of its policies (comparisons/ of the output).

A row compares two policies. Here policies become methods (arms) and the seeds of a method are pooled, so the intervals are
over prompts for these seeds; whether another seed would show the same is the business of the metrics `<benchmark>@<judge>`,
which have the seed as unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from reports.compare.winrates import ComparisonError, difficulty_of, judge_agreement, judge_summary, read_comparisons
from reports.runs.arms import arm_of, arms
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, read_json
from reports.statistics.winrate import win_rate

COMPARISONS = "comparisons"

Row = Mapping[str, Any]


def judges_summary(matrix: MatrixData) -> list[dict[str, Any]]:
    """For every benchmark that was judged: each judge's win rates, and the agreement of every two judges.

    A judge that failed stands there with its error; where it left requests unanswered its figures are of the comparisons
    that it did make.

    Raises:
        ReportError: a damaged file of comparisons.
    """
    records: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in sorted((matrix.output_dir / COMPARISONS).glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or not {"benchmark", "judge", "state"} <= set(record):
            raise ReportError(f"{path}: not the record of a judge; delete it and rerun")
        records.setdefault(str(record["benchmark"]), []).append((path, record))
    return [_benchmark(matrix, name, found) for name, found in records.items()]


def _benchmark(matrix: MatrixData, benchmark: str, records: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    judged, rows_of = [], {}
    for path, record in records:
        rows = _rows(path, {run.run_id for run in matrix.runs})
        judged.append(_judge(matrix, record, rows))
        if rows:
            rows_of[str(record["judge"])] = rows
    return {
        "benchmark": benchmark,
        "reference": REFERENCE_ID,
        "judges": judged,
        "agreement": [judge_agreement(a, b, rows_of[a], rows_of[b]) for a, b in combinations(sorted(rows_of), 2)],
    }


def _rows(record: Path, runs: set[str]) -> list[dict[str, Any]]:
    """Comparisons between runs of the matrix and its reference."""
    path = record.with_suffix(".jsonl")
    if not path.exists():
        return []
    try:
        rows = read_comparisons(path)
    except ComparisonError as error:
        raise ReportError(str(error)) from error
    known = runs | {REFERENCE_ID}
    return [row for row in rows if row["first"] in known and row["second"] in known]


def _judge(matrix: MatrixData, record: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    account = (record.get("judges") or {}).get(record["judge"]) or {}
    labels = {**arm_of(arms(matrix.runs)), REFERENCE_ID: REFERENCE_ID}
    seeds = {run.run_id: run.seed for run in matrix.runs}
    found: dict[str, Any] = {"against_reference": [], "pairs": [], "bradley_terry": None, "position": None}
    counts: dict[str, Any] = {"comparisons": 0, "identical": 0, "failed": {}}
    if rows:
        pooled = [
            {
                **row,
                "first": labels[row["first"]],
                "second": labels[row["second"]],
                "sample": f"{seeds[row['first'] if row['first'] != REFERENCE_ID else row['second']]}/{row['sample']}",
            }
            for row in rows
        ]
        whole = judge_summary(pooled, REFERENCE_ID, difficulty_of(rows, REFERENCE_ID))
        found = {key: whole[key] for key in ("pairs", "bradley_terry", "position")}
        found["against_reference"] = [
            {"label": label, **values, "policies": _policies(rows, label, labels, seeds)}
            for label, values in whole["against_reference"].items()
        ]
        counts = {key: whole[key] for key in counts}
    return {
        "name": record["judge"],
        "identity": account.get("identity"),
        "state": record["state"],
        "error": record.get("error"),
        "left_out": record.get("left_out") or {},
        "tally": account.get("tally"),
        **counts,
        **found,
    }


def _policies(
    rows: Sequence[Row], label: str, labels: Mapping[str, str], seeds: Mapping[str, int | None]
) -> list[dict[str, Any]]:
    """The win rate of every policy of a method against the reference, over prompts."""
    found = []
    for run_id in (name for name, own in labels.items() if own == label and name != REFERENCE_ID):
        mine = [row for row in rows if row["first"] == run_id and row["second"] == REFERENCE_ID]
        if mine:
            preferences = [float("nan") if row["preference"] is None else row["preference"] for row in mine]
            groups = [row.get("group") or row["prompt_id"] for row in mine]
            rate = win_rate(preferences, groups).as_dict()
            found.append({"run_id": run_id, "seed": seeds[run_id], "win_rate": rate})
    return found
