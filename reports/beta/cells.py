"""The smallest result here, a number with its interval or null with the reason, of one run and over many.

Over many runs: inside runs, between runs, all rows thrown together, and whether they disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.schema.beta import Cell, Simpson
from reports.statistics.association import varies
from reports.statistics.paired import seed_interval

Floats = NDArray[np.float64]

#: Variance factors of Fisher's z: Fieller (1957) for Kendall; Spearman's depends on the value (Bonett and Wright 2000).
_KENDALL = 0.437
_NORMAL = float(stats.norm.ppf(0.975))


def cell(value: float | None, low: float | None = None, high: float | None = None, reason: str | None = None) -> Cell:
    """`reason` says why value or interval is null; a number that is not finite becomes null. Six digits are kept."""
    numbers = [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in (value, low, high)]
    if None not in numbers:
        reason = None
    elif reason is None:
        reason = "not defined for these data" if numbers[0] is None else "no interval is given for this statistic"
    return Cell(value=numbers[0], low=numbers[1], high=numbers[2], reason=reason)


def fisher_cell(value: float, effective: float, kind: str, held: int = 0) -> Cell:
    """A correlation with its 95 % Fisher z interval from `effective` independent points, `held` of them spent on controls."""
    factor = _KENDALL if kind == "kendall" else 1 + value**2 / 2 if kind == "spearman" else 1.0
    freedom = effective - held - (4 if kind == "kendall" else 3)
    if freedom <= 1:
        return cell(value, reason=f"worth {effective:.1f} independent points: too few for an interval")
    half = _NORMAL * math.sqrt(factor / freedom)
    z = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return cell(value, min(math.tanh(z - half), value), max(math.tanh(z + half), value))


FEWEST_RUNS = 4  # for a correlation of one point per run


def mean_cell(values: Sequence[float | None]) -> Cell:
    """Mean of one value per run with a t interval over runs."""
    inner = seed_interval([v for v in values if v is not None])
    return cell(inner.estimate, inner.low, inner.high, inner.note)


def mean_fields(values: Sequence[float | None]) -> dict[str, Any]:
    """`mean_cell` as fields of a point of a curve."""
    found = mean_cell(values)
    return {"mean": found.value, "low": found.low, "high": found.high, "reason": found.reason}


def within(correlations: Sequence[float | None]) -> Cell:
    """Mean of Fisher's z over runs, one correlation each, with a t interval over runs, as a correlation."""
    z = [float(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))) for r in correlations if r is not None]
    inner = seed_interval(z)
    value, low, high = (None if v is None else float(np.tanh(v)) for v in (inner.estimate, inner.low, inner.high))
    return cell(value, low, high, "no run has this correlation" if not z else inner.note)


def between(x: Sequence[float | None], y: Sequence[float | None]) -> Cell:
    """Spearman of two values per run, one point a run."""
    pairs = np.array([(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None], dtype=float)
    if len(pairs) < FEWEST_RUNS:
        return cell(None, reason=f"{len(pairs)} run(s) with both; a correlation between runs needs {FEWEST_RUNS}")
    if not varies(pairs[:, 0]) or not varies(pairs[:, 1]):
        return cell(None, reason="the runs do not differ in one of the two")
    return fisher_cell(float(stats.spearmanr(pairs).statistic), len(pairs), "spearman")


def pooled(parts: Sequence[tuple[Floats, Floats]]) -> Cell:
    """Spearman over the rows of all runs thrown together, as if they were independent: the naive analysis."""
    if not parts:
        return cell(None, reason="no rows")
    x, y = np.concatenate(parts, axis=1)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if x.size < 4 or not varies(x) or not varies(y):
        return cell(None, reason="fewer than four rows, or one of the two does not vary")
    rho = float(np.clip(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1], -1, 1))
    return fisher_cell(rho, x.size, "spearman")


def _sign(estimate: Cell) -> int:
    """Sign of an estimate whose interval excludes zero, else 0."""
    if estimate.low is None or estimate.high is None:
        return 0
    return 1 if estimate.low > 0 else -1 if estimate.high < 0 else 0


def simpson(inside: Cell, together: Cell, runs: int) -> Simpson:
    """Whether pooling the rows turns the sign around: both intervals exclude zero, on opposite sides.

    The flag is null where the question cannot be asked: one run, or no interval inside runs.
    """
    if runs < 2:
        return Simpson(flag=None, reason="a single run: nothing to pool")
    if inside.low is None or together.low is None:
        return Simpson(flag=None, reason=inside.reason or together.reason)
    return Simpson(flag=_sign(inside) * _sign(together) < 0, reason=None)
