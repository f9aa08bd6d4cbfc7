"""Which methods cannot be told from the best one on a metric: the tie marks of the method by benchmark matrix."""

from __future__ import annotations

from typing import Any

from reports.schema import Metric

BEST, TIED, APART, UNKNOWN = "best", "tied", "apart", "unknown"
SENTENCE = (
    "▲ marks the best mean; ≈ marks what is not distinguishable from it (seeds and prompts crossed, Holm over all pairs of "
    "methods, p > .05, or too few shared seeds for a test). The best was picked on the same prompts: a reading aid, not a test."
)


def ties(metric: Metric) -> dict[str, dict[str, Any]]:
    """For each method's label {"mark", "how"}: best, tied with the best, apart from it, or unknown (no score).

    `metric` is an entry of summary["metrics"]; methods that share a letter of its `tie_groups` are not distinguishable.
    """
    found = metric.tie_groups
    groups = {group.label: set(group.letters) for group in found.groups}
    marks = {m.label: {"mark": UNKNOWN, "how": "no score"} for m in metric.methods}
    best = next(iter(groups), None)  # they come in the order of their means
    for label, letters in groups.items():
        if label == best:
            marks[label] = {"mark": BEST, "how": f"the best mean of {len(groups)} methods"}
            continue
        tied = bool(letters & groups[str(best)])
        said = f"{'not told' if tied else 'told'} apart from {best}"
        how = f"{said}: {found.method}, {found.tested} of {found.pairs} pairs tested"
        marks[label] = {
            "mark": TIED if tied else APART,
            "how": how + (f"; {found.reason}" if found.reason else ""),
        }
    return marks
