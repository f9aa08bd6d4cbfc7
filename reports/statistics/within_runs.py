"""Association of two quantities within runs, with the run as the unit: what pooling the rows of all runs gets wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .autocorrelation import detrend
from .results import Estimate, undefined
from .seeds import seed_interval


def _residuals(ranks: NDArray[np.float64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks of one run less what all rows of a step share; with one row a step, less a straight line."""
    _, index, counts = np.unique(steps, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        return detrend(ranks, steps)
    centred: NDArray[np.float64] = ranks - (np.bincount(index, weights=ranks) / counts)[index]
    return centred


def within_runs(x: ArrayLike, y: ArrayLike, steps: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Spearman-type correlation of x and y inside runs, arrays of shape (runs, rows); steps has shape (rows,).

    Ranks within a run are centred within each step (rows of one step share the policy), correlated, and Fisher's z of
    the runs gets a t interval with runs - 1 degrees of freedom. Runs are independent, so autocorrelation inside a run
    makes the interval wider and never wrong; level differences between runs (Simpson) drop out.
    """
    a, b, clock = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(steps)
    name = "within-run Spearman, t over runs of Fisher z"
    if a.shape != b.shape or a.ndim != 2 or clock.shape != a.shape[1:]:
        raise ValueError(f"within_runs: shapes {a.shape}, {b.shape} and steps {clock.shape}; give (runs, rows)")
    z = []
    for first, second in zip(stats.rankdata(a, axis=1), stats.rankdata(b, axis=1), strict=True):
        u, v = _residuals(first, clock), _residuals(second, clock)
        energy = float((u @ u) * (v @ v))
        if energy > 0:
            z.append(float(np.arctanh(np.clip((u @ v) / np.sqrt(energy), -1 + 1e-12, 1 - 1e-12))))
    if not z:
        return undefined(name, a.shape[1], "one of the two does not vary within any run", 0)
    inner = seed_interval(z, a.shape[1], confidence)
    value, low, high = (None if t is None else float(np.tanh(t)) for t in (inner.estimate, inner.low, inner.high))
    return Estimate(value, low, high, name, a.shape[1], len(z), confidence=confidence, note=inner.note)
