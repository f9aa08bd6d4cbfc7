"""Every method against the reference on the primary metric: whether training helped at all."""

from __future__ import annotations

from reports.compare.comparison import column_pairs, paired_grid, tested
from reports.runs.arms import Arm
from reports.runs.records import REFERENCE_ID, Scores
from reports.schema.metrics import Inferred, Metric
from reports.schema.verdict import OverReference


def over_reference(primary: Metric | None) -> list[OverReference]:
    """One row per arm from the primary metric; empty where the reference was not scored.

    The reference is one policy without a seed: every seed is paired with it by prompt, so its own noise is part of the spread
    over prompts.
    """
    if primary is None:
        return []
    methods = {arm.label: arm.method for arm in primary.methods}
    return [
        _row(methods[c.label], c.label, primary.name, c, len(c.seeds))
        for c in primary.comparisons
        if c.against == REFERENCE_ID
    ]


def run_over_reference(arm: Arm, reference: Scores, metric: str) -> list[OverReference]:
    """The row of a single run, whose interval is over prompts; empty where it shares no prompt with the reference."""
    pairs, _ = column_pairs(arm, None, reference, reference.benchmark, metric)
    ids, grid = paired_grid(pairs)
    name = f"{reference.benchmark}/{metric}"
    return [_row(arm.method, arm.label, name, tested(grid, len(ids)), len(pairs))] if ids else []


def _row(method: str, label: str, metric: str, found: Inferred, seeds: int) -> OverReference:
    difference = found.difference
    return OverReference(
        method=method,
        label=label,
        metric=metric,
        difference=difference.value,
        standard_error=difference.stderr,
        ci_low=difference.low,
        ci_high=difference.high,
        n_seeds=seeds,
        n_prompts=found.n,
        reason=difference.reason,
        covers=None if difference.low is None else "seeds and prompts" if seeds > 1 else "prompts of one seed",
    )
