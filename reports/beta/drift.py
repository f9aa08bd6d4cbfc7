"""How beta moved while training: its level, its spread, the order of the examples, and whether it collapsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from reports.beta.cells import Floats, cell
from reports.runs.records import RunData
from reports.schema.base import Collapse
from reports.schema.beta import BetaLevel, Bounds, Cell, Drift, SameExamples
from reports.statistics.association import varies

PART = 0.1  # the first and the last tenth of the steps are compared


def drift(beta: Floats, steps: Floats, example: NDArray[np.int64]) -> Drift:
    """Arrays of shape (n,), in order of step. Changes are of log beta: 0.1 is about 10 %.

    `level` and `spread`: mean and standard deviation of log beta in the first and the last tenth of the steps; `slope`: change
    of mean log beta per 100 steps. `same_examples` compares the first and the last visit of the examples seen twice: mean
    change with a t interval over examples, and the rank correlation of the two visits.
    """
    log = np.log(np.maximum(beta, 1e-12))
    span = steps[-1] - steps[0] if steps.size else 0.0
    if beta.size < 4 or span <= 0:
        reason = "rows of fewer than two steps"
        return Drift(first=None, last=None, slope=cell(None, reason=reason), same_examples=None, reason=reason)
    names, label = np.unique(steps, return_inverse=True)
    return Drift(
        first=_level(log[steps <= steps[0] + PART * span]),
        last=_level(log[steps >= steps[-1] - PART * span]),
        slope=_slope(names, np.bincount(label, weights=log) / np.bincount(label)),
        same_examples=_visits(log, example),
        reason=None,
    )


def _level(log: Floats) -> BetaLevel:
    return BetaLevel(level=float(log.mean()), spread=float(log.std()), n=log.size)


def _slope(steps: Floats, means: Floats) -> Cell:
    """Per 100 steps, the interval widened by the residuals' first autocorrelation: (1 + r) / (1 - r) on the variance."""
    if steps.size < 8:
        return cell(None, reason="fewer than eight steps")
    t = steps - steps.mean()
    energy = float(t @ t)
    slope = float(t @ means) / energy
    left = means - means.mean() - slope * t
    power = float(left @ left)
    if power <= 1e-18 * steps.size:
        return cell(100 * slope, 100 * slope, 100 * slope)
    # r is biased down by about (1 + 4 r) / n around a fitted line (Marriott and Pope 1954)
    r = float(left[1:] @ left[:-1]) / power
    r = min(max((r + 1 / steps.size) / (1 - 4 / steps.size), 0.0), 0.99)
    worth = max(steps.size * (1 - r) / (1 + r) - 2, 1.0)
    error = np.sqrt(power / (steps.size - 2) / energy * (1 + r) / (1 - r))
    half = float(special.stdtrit(worth, 0.975)) * float(error)
    return cell(100 * slope, 100 * (slope - half), 100 * (slope + half))


def _visits(log: Floats, example: NDArray[np.int64]) -> SameExamples | None:
    names, first = np.unique(example, return_index=True)
    _, back = np.unique(example[::-1], return_index=True)
    last = example.size - 1 - back
    twice = (first != last) & (names >= 0)
    if twice.sum() < 4:
        return None
    a, b = log[first[twice]], log[last[twice]]
    moved = b - a
    half = float(special.stdtrit(moved.size - 1, 0.975) * moved.std(ddof=1) / np.sqrt(moved.size))
    mean = float(moved.mean())
    kept = float(stats.spearmanr(a, b).statistic) if varies(a) and varies(b) else None
    return SameExamples(
        examples=moved.size,
        change=cell(mean, mean - half, mean + half),
        order_kept=cell(kept, reason="beta does not vary over examples" if kept is None else "no interval is given"),
    )


def collapse_of(run: RunData) -> Collapse | None:
    """The first logged step at which beta was found collapsed (at a bound, or its variance gone), and why."""
    hits = [r for r in run.history if r.get("beta_collapse")]
    if not hits:
        return None
    return Collapse(step=hits[0].get("step"), reason=str(hits[0]["beta_collapse"]), records=len(hits))


def edges(beta: Floats, settings: Mapping[str, Any]) -> Bounds:
    """Share of rows at the rule's lower and upper bound, where its settings name bounds."""
    base, low, high = (settings.get(k) for k in ("pref_beta", "beta_min_ratio", "beta_max_ratio"))
    if not all(isinstance(v, (int, float)) for v in (base, low, high)) or not beta.size:
        return Bounds(at_lower=None, at_upper=None, reason="the run's settings name no bounds")
    slack = 1e-5 * base  # type: ignore[operator]
    at_lower, at_upper = beta <= low * base + slack, beta >= high * base - slack  # type: ignore[operator]
    return Bounds(at_lower=float(at_lower.mean()), at_upper=float(at_upper.mean()), reason=None)
