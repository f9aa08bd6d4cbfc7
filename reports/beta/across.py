"""One association over many runs: inside runs, between runs, all rows thrown together, and whether they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from reports.beta.cells import Cell, Floats, cell, fisher_cell
from reports.statistics.association import varies
from reports.statistics.paired import seed_interval

FEWEST_RUNS = 4  # for a correlation of one point per run


def mean_cell(values: Sequence[float | None]) -> Cell:
    """Mean of one value per run with a t interval over runs."""
    inner = seed_interval([v for v in values if v is not None])
    return cell(inner.estimate, inner.low, inner.high, inner.note)


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
    x, y = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if x.size < 4 or not varies(x) or not varies(y):
        return cell(None, reason="fewer than four rows, or one of the two does not vary")
    return fisher_cell(
        float(np.clip(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1], -1, 1)), x.size, "spearman"
    )


def _sign(estimate: Mapping[str, Any]) -> int:
    """Sign of an estimate whose interval excludes zero, else 0."""
    if estimate["low"] is None or estimate["high"] is None:
        return 0
    return 1 if estimate["low"] > 0 else -1 if estimate["high"] < 0 else 0


def simpson(inside: Mapping[str, Any], together: Mapping[str, Any], runs: int) -> dict[str, Any]:
    """Whether pooling the rows turns the sign around: both intervals exclude zero, on opposite sides.

    The flag is null where the question cannot be asked: one run, or no interval inside runs.
    """
    if runs < 2:
        return {"flag": None, "reason": "one run: nothing is pooled"}
    if inside["low"] is None or together["low"] is None:
        return {"flag": None, "reason": inside["reason"] or together["reason"]}
    return {"flag": _sign(inside) * _sign(together) < 0, "reason": None}
