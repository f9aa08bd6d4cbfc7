"""What the judges of a matrix found: win rates by method, from the comparisons of its policies (comparisons/ of the output).

A row compares two policies. Here policies become methods (arms) and the seeds of a method are pooled, so the intervals are
over prompts for these seeds; whether another seed would show the same is the business of the metrics `<benchmark>@<judge>`,
which have the seed as unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd

from reports.compare.winrates import (
    against,
    comparison_table,
    difficulty_of,
    judge_agreement,
    judge_summary,
    rate_of,
    read_comparisons,
    verdicts_of,
)
from reports.runs import (
    COMPARISONS,
    REFERENCE_ID,
    Item,
    MatrixData,
    ReportError,
    RunData,
    Scores,
    arm_of,
    arms,
    grouped,
    read_json,
)
from reports.schema import Estimate, Json, JudgedBenchmark, JudgedPolicy, JudgeReport, JudgeVerdicts
from reports.statistics.intervals import mean_interval
from reports.statistics.preferences import FOLDS, length_controlled_cells
from reports.statistics.winrate import win_rate_over_seeds

_NONE = JudgeVerdicts(
    comparisons=0, identical=0, failed={}, pairs=[], bradley_terry=None, position=None, against_reference=[]
)


def judges_summary(matrix: MatrixData) -> list[JudgedBenchmark]:
    """For every benchmark that was judged: each judge's win rates, and the agreement of every two judges.

    A judge that failed stands there with its error; where it left requests unanswered its figures are of the comparisons
    that it did make.

    Raises:
        ReportError: a damaged file of comparisons.
    """
    records: dict[str, list[tuple[Json, pd.DataFrame]]] = {}
    for path in sorted((matrix.output_dir / COMPARISONS).glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or not {"benchmark", "judge", "state"} <= set(record):
            raise ReportError(f"{path}: not the record of a judge; delete it and rerun")
        records.setdefault(str(record["benchmark"]), []).append((record, _table(path.with_suffix(".jsonl"))))
    return [_benchmark(matrix, name, found) for name, found in records.items()]


def _table(path: Path) -> pd.DataFrame:
    """The comparisons in a file; none where it does not exist."""
    return comparison_table(read_comparisons(path) if path.exists() else [])


def _benchmark(matrix: MatrixData, benchmark: str, records: Sequence[tuple[Json, pd.DataFrame]]) -> JudgedBenchmark:
    known = {REFERENCE_ID, *(run.run_id for run in matrix.runs)}
    found = [(record, table[table["first"].isin(known) & table["second"].isin(known)]) for record, table in records]
    said = {str(record["judge"]): verdicts_of(table, "sample") for record, table in found if len(table)}
    return JudgedBenchmark(
        benchmark=benchmark,
        reference=REFERENCE_ID,
        judges=[_judge(matrix, record, table) for record, table in found],
        agreement=[judge_agreement(a, b, said[a], said[b]) for a, b in combinations(sorted(said), 2)],
    )


def _judge(matrix: MatrixData, record: Json, table: pd.DataFrame) -> JudgeReport:
    account = (record.get("judges") or {}).get(record["judge"]) or {}
    verdicts = _NONE
    if len(table):
        labels = {**arm_of(arms(matrix.runs)), REFERENCE_ID: REFERENCE_ID}
        seeds = {run.run_id: run.seed for run in matrix.runs}
        pooled = table.assign(first=table["first"].map(labels), second=table["second"].map(labels))
        difficulty = difficulty_of(table, REFERENCE_ID)
        verdicts = judge_summary(pooled, REFERENCE_ID, difficulty, policies=_policies(table, labels, seeds))
        over = _over_seeds(table, labels, seeds)
        arms_of = [one.model_copy(update={"over_seeds": over.get(one.label)}) for one in verdicts.against_reference]
        verdicts = verdicts.model_copy(update={"against_reference": arms_of})
    return JudgeReport(
        **dict(verdicts),
        name=record["judge"],
        identity=account.get("identity"),
        state=record["state"],
        error=record.get("error"),
        left_out=record.get("left_out") or {},
        tally=account.get("tally"),
    )


def _over_seeds(table: pd.DataFrame, labels: Mapping[str, str], seeds: Mapping[str, int | None]) -> dict[str, Estimate]:
    """By method, its win rate over seeds and prompts; nothing for a method with one seed."""
    groups = dict(zip(table["prompt_id"], table["group"], strict=True))
    found = against(table, REFERENCE_ID)
    runs = grouped((labels[run], means["preference"]) for run, means in found.items() if seeds.get(run) is not None)
    grids = {label: pd.concat(own, axis=1).sort_index() for label, own in runs.items() if len(own) > 1}
    return {label: win_rate_over_seeds(grid.T, [groups[p] for p in grid.index]) for label, grid in grids.items()}


def _policies(
    table: pd.DataFrame, labels: Mapping[str, str], seeds: Mapping[str, int | None]
) -> dict[str, list[JudgedPolicy]]:
    """By method, the win rate of every policy against the reference, over prompts."""
    rates = {str(run): rate_of(own) for run, own in table[table["second"] == REFERENCE_ID].groupby("first")}
    return grouped(
        (label, JudgedPolicy(run_id=run_id, seed=seeds[run_id], win_rate=rates[run_id]))
        for run_id, label in labels.items()
        if run_id in rates
    )


# The length-controlled win rate as a metric of `<benchmark>@<judge>`: item values of each run, so that seeds are
# units.


LENGTH_CONTROLLED = "length_controlled"
_SAID = (
    "AlpacaEval 2's win rate against the reference at equal length: the fit's prediction for each prompt and that prompt's "
    "influence on it"
)

Cells = Mapping[str, Mapping[str, float]]


def with_length_control(matrix: MatrixData) -> MatrixData:
    """The matrix with the metric in the scores of every judged benchmark where the difficulty of a prompt can be estimated.

    That takes four policies; a run needs ten prompts with a verdict. The difficulty comes from all policies of the matrix, so
    a run's values change a little when others are added. Raises ReportError for a damaged file of comparisons.
    """
    for name in matrix.benchmarks:
        path = matrix.output_dir / COMPARISONS / f"{name}.jsonl"
        if "@" not in name or not path.exists():
            continue
        cells = length_controlled_items(_table(path), REFERENCE_ID)
        runs = tuple(_added(run, name, cells.get(run.run_id)) for run in matrix.runs)
        reference = matrix.reference
        if cells and reference is not None and name in reference.scores:
            half = {item.id: 0.5 for item in reference.scores[name].items}
            reference = _added(reference, name, half)
        matrix = replace(matrix, runs=runs, reference=reference)
    return matrix


def length_controlled_items(table: pd.DataFrame, reference: str) -> Cells:
    """By policy and prompt, values whose mean is the length-controlled win rate against the reference and whose spread is its
    own; empty where the difficulty of a prompt is not known."""
    difficulty = difficulty_of(table, reference)
    if difficulty is None:
        return {}
    found = {}
    for run_id, means in against(table, reference).items():
        if len(means) >= 2 * FOLDS:
            gamma = [difficulty[prompt] for prompt in means.index]
            values = length_controlled_cells(means["preference"], means["length_first"], means["length_second"], gamma)
            found[run_id] = dict(zip(map(str, means.index), values.tolist(), strict=True))
    return found


def _added(run: RunData, name: str, values: Mapping[str, float] | None) -> RunData:
    scores = run.scores.get(name)
    if scores is None or not values:
        return run
    items = tuple(
        Item(item.id, {**item.values, LENGTH_CONTROLLED: values.get(item.id)}, item.group, item.extra)
        for item in scores.items
    )
    known = [(i, v) for i in items if (v := i.values[LENGTH_CONTROLLED]) is not None]
    mean = mean_interval([v for _, v in known], [i.group or i.id for i, _ in known])
    stated = {"value": mean.value, "stderr": mean.stderr, "n": mean.n, "higher_is_better": True}
    added: Scores = replace(
        scores,
        items=items,
        metrics={**scores.metrics, LENGTH_CONTROLLED: stated},
        descriptions={**scores.descriptions, LENGTH_CONTROLLED: _SAID},
    )
    return replace(run, scores={**run.scores, name: added})
