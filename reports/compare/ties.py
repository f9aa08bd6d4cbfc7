"""Which methods cannot be told from the best one on a metric: the tie marks of the method by benchmark matrix."""

from __future__ import annotations

from typing import NamedTuple

from reports.schema.metrics import Metric

BEST, TIED, APART, UNKNOWN = "best", "tied", "apart", "unknown"
SENTENCE = (
    "▲ marks the best mean; ≈ marks what is not distinguishable from it (seeds and prompts crossed, Holm over all pairs of "
    "methods, p > .05, or too few shared seeds for a test). The best was picked on the same prompts: a reading aid, not a test."
)


class Tie(NamedTuple):
    """One method's mark, and how it was found."""

    mark: str
    how: str


def ties(metric: Metric) -> dict[str, Tie]:
    """For each method's label whether it is the best, tied with the best, apart from it, or unknown (no score).

    Methods that share a letter of the metric's `tie_groups` are not distinguishable.
    """
    found = metric.tie_groups
    groups = {group.label: set(group.letters) for group in found.groups}
    marks = {m.label: Tie(UNKNOWN, "no score") for m in metric.methods}
    best = next(iter(groups), "")  # they come in the order of their means
    for label, letters in groups.items():
        tied = bool(letters & groups[best])
        how = f"{'not told' if tied else 'told'} apart from {best}: {found.method}, {found.tested} of {found.pairs} pairs tested"
        marks[label] = Tie(TIED if tied else APART, how + (f"; {found.reason}" if found.reason else ""))
    if best:
        marks[best] = Tie(BEST, f"the best mean of {len(groups)} methods")
    return marks
