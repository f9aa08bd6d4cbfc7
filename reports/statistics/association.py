"""Association between series, with autocorrelation taken into account."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.schema.base import Estimate
from reports.statistics.intervals import Floats, estimated, undefined
from reports.statistics.paired import seed_interval


def autocorrelation(series: ArrayLike, lags: int) -> Floats:
    """Sample autocorrelation at lags 1..lags of a series with shape (n,); zeros for a constant series."""
    x = np.asarray(series, dtype=float)
    x = x - x.mean()
    energy = float(x @ x)
    padded = np.fft.rfft(x, 2 * x.size)
    full = np.fft.irfft(padded * padded.conj(), 2 * x.size)[1 : lags + 1]
    return np.asarray(full / energy) if energy else np.zeros(lags)


def varies(x: ArrayLike) -> bool:
    """Whether the values differ by more than rounding: a constant stored in float32 does not vary."""
    values = np.asarray(x, dtype=float)
    values = values[np.isfinite(values)]
    return values.size > 1 and float(np.ptp(values)) > 1e-6 * max(float(np.abs(values).max()), 1e-12)


# Association of two quantities within runs, with the run as the unit: what pooling the rows of all runs gets wrong.


#: Above this mean rank correlation of the residuals of x between runs, the runs met the same rows in the same order.
SAME_ORDER = 0.5
Remake = Callable[[Floats, Floats], Floats]


def _residual_ranks(series: Floats, steps: NDArray[np.int64]) -> Floats:
    """Ranks without what all rows of a step share, shape (..., rows); with one row a step, of first differences."""
    _, index, counts = np.unique(steps, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        ranks = stats.rankdata(np.diff(series, axis=-1), axis=-1)
        return np.asarray(ranks - ranks.mean(axis=-1, keepdims=True))
    member = np.zeros((steps.size, counts.size))
    member[np.arange(steps.size), index] = 1.0
    ranks = stats.rankdata(series, axis=-1)
    return np.asarray(ranks - (ranks @ member / counts)[..., index])


def _fisher(u: Floats, v: Floats) -> Floats:
    """Fisher's z of the correlation of centred series along the last axis; NaN where one is constant."""
    energy = (u * u).sum(axis=-1) * (v * v).sum(axis=-1)
    r = np.divide((u * v).sum(axis=-1), np.sqrt(energy), out=np.full(energy.shape, np.nan), where=energy > 0)
    return np.asarray(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)))


def within_runs(
    x: ArrayLike, y: ArrayLike, steps: ArrayLike, remake: Remake | None = None, confidence: float = 0.95
) -> Estimate:
    """Spearman-type association of x and y inside runs, beyond what runs share; arrays (runs, rows), steps (rows,).

    Ranks are taken within a step (rows of one step share the policy), or of first differences where a step has one row.
    A run's correlation is compared with those of its y and the x of every other run: these have the same trend in the
    step, the same memory and, where y contains x (`remake(x, y)` computes the outcome, a loss from beta and delta, say), the
    same algebra, but no link. Fisher's z less their mean gets a t interval with runs - 1 degrees of freedom. Levels that
    differ between runs (Simpson) drop out. Runs that met the same rows in the same order are compared half a run apart.
    """
    a, b, clock = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(steps)
    name = "within-run Spearman less that across runs, t over runs of Fisher z"
    runs, rows = a.shape
    if runs < 2 or rows < 4:
        why = "one run: nothing to compare its correlation with" if runs < 2 else "few rows"
        return undefined(name, rows, why, runs)
    own = _residual_ranks(a, clock)
    between = np.tanh(_fisher(own[:, None], own[None]))[~np.eye(runs, dtype=bool)]
    same = bool(np.nanmean(between) > SAME_ORDER) if np.isfinite(between).any() else False
    others = np.roll(a, rows // 2, axis=1) if same else a
    turned = _residual_ranks(others, clock) if same else own
    beyond = []
    for run in range(runs):
        mine = np.arange(runs)[:, None] == run
        table = np.where(mine, a, others)
        made = np.broadcast_to(b[run], table.shape) if remake is None else remake(table, b[run])
        z = _fisher(np.where(mine, own, turned), _residual_ranks(made, clock))
        foreign = np.delete(z, run)
        if np.isfinite(z[run]) and np.isfinite(foreign).any():
            beyond.append(float(z[run] - np.nanmean(foreign)))
    if not beyond:
        return undefined(name, rows, "one of the two does not vary within any run", 0)
    inner = seed_interval(beyond, rows, confidence)
    value, low, high = (None if t is None else np.tanh(t) for t in (inner.value, inner.low, inner.high))
    return estimated(value, low, high, name, rows, len(beyond), confidence=confidence, note=inner.note)
