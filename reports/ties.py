"""Which methods cannot be told from the best one on a metric: the tie marks of the method by benchmark matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .comparison import columns_of, interval_of, paired_grid
from .labels import Arm
from .statistics.crossed import crossed_mean

BEST, TIED, APART, UNKNOWN = "best", "tied", "apart", "unknown"
SENTENCE = (
    "▲ marks the best mean; ≈ marks what cannot be told from it: the 95 % interval of the paired difference over seeds and "
    "prompts holds zero, or there are too few seeds for one. The best was picked on the same prompts and nothing is "
    "corrected: a reading aid, not a test."
)


def ties(metric: Mapping[str, Any], arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """For each arm's label {"mark", "how"}: best, tied with the best, apart from it, or unknown (no score, nothing paired).

    `metric` is an entry of summary["metrics"].
    """
    sign = 1 if metric["higher_is_better"] else -1
    means = {m["label"]: m["mean"]["value"] for m in metric["methods"]}
    scored = {label: sign * value for label, value in means.items() if value is not None}
    if not scored:
        return {label: {"mark": UNKNOWN, "how": "no score"} for label in means}
    best = max(scored, key=lambda label: scored[label])
    named = {arm.label: arm for arm in arms}
    theirs = {c.seed: c for c in columns_of(named[best].runs, metric["benchmark"], metric["metric"])}
    marks = {best: {"mark": BEST, "how": f"the best mean of {len(scored)} methods"}}
    for label in means:
        if label == best:
            continue
        if label not in scored:
            marks[label] = {"mark": UNKNOWN, "how": "no score"}
            continue
        mine = columns_of(named[label].runs, metric["benchmark"], metric["metric"])
        ids, grid = paired_grid([(c, theirs[c.seed]) for c in mine if c.seed in theirs])
        marks[label] = _mark(best, len(ids), grid)
    return marks


def _mark(best: str, prompts: int, grid: Any) -> dict[str, Any]:
    if not prompts:
        return {"mark": UNKNOWN, "how": f"no seed and prompt in common with {best}"}
    estimate = interval_of(crossed_mean(grid), grid)
    sizes = f"{grid.shape[0]} seeds x {prompts} prompts"
    if estimate.low is None or estimate.high is None or grid.shape[0] < 2:
        return {"mark": TIED, "how": f"too few seeds or no spread to tell it from {best} ({sizes})"}
    said = f"difference to {best}: {estimate.low:+.3f} to {estimate.high:+.3f} ({estimate.method}, {sizes})"
    return {"mark": TIED if estimate.low <= 0 <= estimate.high else APART, "how": said}
