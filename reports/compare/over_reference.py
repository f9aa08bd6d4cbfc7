"""Every method against the reference on the primary metric: whether training helped at all."""

from __future__ import annotations

from collections.abc import Sequence

from reports.compare.comparison import column_pairs, paired_grid, tested
from reports.runs.arms import Arm
from reports.runs.records import REFERENCE_ID, Scores
from reports.schema.metrics import Inferred, Metric
from reports.schema.verdict import OverReference, VerdictSentence

#: Verdicts that leave open whether two methods differ.
_OPEN = ("unsettled", "inconclusive")


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


def _part(row: OverReference) -> str:
    span = "no interval" if row.ci_low is None else f"95 % {row.ci_low:+.3f} to {row.ci_high:+.3f}"
    return f"{row.label} {row.difference:+.3f} ({span})"


def sentence(
    rows: Sequence[OverReference], primary: Metric | None, verdicts: Sequence[VerdictSentence] = ()
) -> str | None:
    """`over_reference` in words, methods of equal seeds and prompts together; None where there is no primary metric.

    Where `verdicts` leave open whether methods differ while one is clearly better than the reference, it says how both can be.
    """
    if primary is None:
        return None
    if not rows:
        return f"The reference was not scored on {primary.name}, so whether training helped is unknown."
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.difference is None:
            continue
        size = f"{row.n_seeds} seed{'' if row.n_seeds == 1 else 's'} x {row.n_prompts} prompts"
        if row.covers == "prompts of one seed":
            size += " (interval over prompts only, another seed may differ)"
        groups.setdefault(size, []).append(_part(row))
    parts = [f"{', '.join(named)}; {size}" for size, named in groups.items()]
    absent = [row.label for row in rows if row.difference is None]
    parts += [f"Not comparable: {', '.join(absent)}"] * bool(absent)
    sign, end = (1, "ci_low") if primary.higher_is_better else (-1, "ci_high")
    better = any((bound := getattr(row, end)) is not None and sign * bound > 0 for row in rows)
    if better and any(verdict.code in _OPEN for verdict in verdicts):
        parts.append(
            "An interval without zero says that the method improved on the reference. Whether one method beats another is a "
            "different question, which the verdict leaves open for want of seeds or prompts"
        )
    about = [
        *([primary.description] if primary.description else []),
        *(["lower is better"] * (not primary.higher_is_better)),
    ]
    said = f" ({'; '.join(about)})" if about else ""
    return f"Over the reference on {primary.name}{said}: {'. '.join(parts)}."
