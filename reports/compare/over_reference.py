"""Every method against the reference on the primary metric: whether training helped at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.runs.records import REFERENCE_ID

BOTH = "seeds and prompts"
PROMPTS_ONLY = "prompts of one seed"
#: Methods named in the sentence; the rest is in summary.json.
MOST = 8


def over_reference(primary: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One row per arm from the primary metric's entry of `summary["metrics"]`; empty where the reference was not scored.

    The reference is one policy without a seed: every seed is paired with it by prompt, so its own noise is part of the spread
    over prompts. `ci_low` and `ci_high` bound the 95 % interval over what `covers` names; a null has a `reason`.
    """
    if primary is None:
        return []
    methods = {arm["label"]: arm["method"] for arm in primary["methods"]}
    rows = []
    for c in primary["comparisons"]:
        if c["against"] != REFERENCE_ID:
            continue
        found, seeds = c["difference"], len(c["seeds"])
        row = {"method": methods[c["label"]], "label": c["label"]}
        row |= {"metric": f"{primary['benchmark']}/{primary['metric']}", "difference": found["value"]}
        row |= {"standard_error": found["stderr"], "ci_low": found["low"], "ci_high": found["high"]}
        row |= {"n_seeds": seeds, "n_prompts": c["n"], "reason": found["reason"]}
        rows.append(row | {"covers": None if found["low"] is None else BOTH if seeds > 1 else PROMPTS_ONLY})
    return rows


def _part(row: Mapping[str, Any]) -> str:
    span = "no interval" if row["ci_low"] is None else f"95 % {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
    return f"{row['label']} {row['difference']:+.3f} ({span})"


def sentence(rows: Sequence[Mapping[str, Any]], primary: Mapping[str, Any] | None) -> str | None:
    """`over_reference` in words, methods of equal seeds and prompts together; None where there is no primary metric."""
    if primary is None:
        return None
    name = f"{primary['benchmark']}/{primary['metric']}"
    if not rows:
        return f"The reference was not scored on {name}, so whether training helped is unknown."
    groups: dict[str, list[str]] = {}
    for row in rows[:MOST]:
        if row["difference"] is None:
            continue
        size = f"{row['n_seeds']} seed{'' if row['n_seeds'] == 1 else 's'} x {row['n_prompts']} prompts"
        if row["covers"] == PROMPTS_ONLY:
            size += " (interval over prompts only, another seed may differ)"
        groups.setdefault(size, []).append(_part(row))
    parts = [f"{', '.join(named)}; {size}" for size, named in groups.items()]
    absent = [row["label"] for row in rows[:MOST] if row["difference"] is None]
    parts += [f"Not comparable: {', '.join(absent)}"] * bool(absent)
    parts += [f"{len(rows) - MOST} more in summary.json"] * (len(rows) > MOST)
    lower = "" if primary["higher_is_better"] else " (lower is better)"
    return f"Over the reference on {name}{lower}: {'. '.join(parts)}."
