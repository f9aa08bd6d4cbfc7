"""The length-controlled win rate as a metric of `<benchmark>@<judge>`: item values of each run, so that seeds are units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.compare.winrates import ComparisonError, Row, against, difficulty_of, read_comparisons
from reports.runs.records import COMPARISONS, REFERENCE_ID, Item, MatrixData, ReportError, RunData, Scores
from reports.statistics.intervals import mean_interval
from reports.statistics.length_control import FOLDS, length_controlled_cells

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
        try:
            cells = length_controlled_items(read_comparisons(path), REFERENCE_ID)
        except ComparisonError as error:
            raise ReportError(str(error)) from error
        runs = tuple(_added(run, name, cells.get(run.run_id)) for run in matrix.runs)
        reference = matrix.reference
        if cells and reference is not None and name in reference.scores:
            half = {item.id: 0.5 for item in reference.scores[name].items}
            reference = _added(reference, name, half)
        matrix = replace(matrix, runs=runs, reference=reference)
    return matrix


def length_controlled_items(rows: Sequence[Row], reference: str) -> Cells:
    """By policy and prompt, values whose mean is the length-controlled win rate against the reference and whose spread is its
    own; empty where the difficulty of a prompt is not known."""
    difficulty = difficulty_of(rows, reference)
    if difficulty is None:
        return {}
    found = {}
    for run_id, means in against(rows, reference).items():
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
    stated = {"value": mean.estimate, "stderr": mean.stderr, "n": mean.n, "higher_is_better": True}
    added: Scores = replace(
        scores,
        items=items,
        metrics={**scores.metrics, LENGTH_CONTROLLED: stated},
        descriptions={**scores.descriptions, LENGTH_CONTROLLED: _SAID},
    )
    return replace(run, scores={**run.scores, name: added})
