"""Association between series, with autocorrelation taken into account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.statistics.paired import seed_interval
from reports.statistics.results import Estimate, undefined

# How many independent points a pair of autocorrelated series is worth.


def autocorrelation(series: ArrayLike, lags: int) -> NDArray[np.float64]:
    """Sample autocorrelation at lags 1..lags of a series with shape (n,); zeros for a constant series."""
    x = np.asarray(series, dtype=float)
    x = x - x.mean()
    energy = float(x @ x)
    if energy == 0:
        return np.zeros(lags)
    padded = np.fft.rfft(x, 2 * x.size)
    full: NDArray[np.float64] = np.fft.irfft(padded * padded.conj(), 2 * x.size)[1 : lags + 1]
    return full / energy


def effective_sample_size(x: ArrayLike, y: ArrayLike) -> float:
    """Effective n for the correlation of two series, shape (n,) each, in order of time.

    1/n_eff = 1/n + (2/n) sum_k ((n-k)/n) r_xx(k) r_yy(k) (Bretherton 1999), summed up to the first lag whose product
    is not positive: beyond it the sample autocorrelations are noise. Within 2..n.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"effective_sample_size: shapes {a.shape} and {b.shape}; give two series of one length")
    n = a.size
    if n < 4:
        return float(n)
    lags = n // 2
    product = autocorrelation(a, lags) * autocorrelation(b, lags)
    stop = np.flatnonzero(product <= 0)
    last = int(stop[0]) if stop.size else lags
    k = np.arange(1, last + 1)
    inverse = 1 / n + 2 / n * float(np.sum((n - k) / n * product[:last]))
    return float(np.clip(1 / inverse, 2.0, n))


# Association of two variables: Pearson, Spearman, Kendall, and Chatterjee's xi for links that are not monotone.


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"correlation: shapes {a.shape} and {b.shape}; give two series of one length")
    keep = np.isfinite(a) & np.isfinite(b)
    return a[keep], b[keep]


def varies(x: ArrayLike) -> bool:
    """Whether the values differ by more than rounding: a constant stored in float32 does not vary."""
    values = np.asarray(x, dtype=float)
    values = values[np.isfinite(values)]
    return values.size > 1 and float(np.ptp(values)) > 1e-6 * max(float(np.abs(values).max()), 1e-12)


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    kind: Literal["pearson", "spearman", "kendall"] = "spearman",
    serial: bool = False,
    confidence: float = 0.95,
) -> Estimate:
    """Correlation of two series, shape (n,), with a Fisher z interval; pairs with a NaN are left out.

    `serial` says the rows are in order of time: the interval then uses the effective sample size of the two series
    (of their ranks for Spearman). Undefined, with a note, when either does not vary.
    """
    a, b = _pair(x, y)
    if a.size < 4:
        return undefined(kind, a.size, "fewer than four pairs of finite values")
    if not varies(a) or not varies(b):
        return undefined(kind, a.size, "one variable is constant; the correlation is undefined")
    if kind == "kendall":
        value = float(stats.kendalltau(a, b).statistic)
    else:
        if kind == "spearman":
            a, b = stats.rankdata(a), stats.rankdata(b)
        value = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    effective = effective_sample_size(a, b) if serial else float(a.size)
    note = f"effective n {effective:.0f} of {a.size}" if serial else None
    if effective <= 4:
        return Estimate(
            value, None, None, kind, a.size, note=f"effective n {effective:.1f} is too small for an interval"
        )
    # Variance factors of Fisher's z: 1 for Pearson; Bonett and Wright (2000) for Spearman; Fieller (1957) for Kendall.
    factor = {"pearson": 1.0, "spearman": 1 + value**2 / 2, "kendall": 0.437}[kind]
    error = np.sqrt(factor / (effective - (4 if kind == "kendall" else 3)))
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    z = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    low, high = float(np.tanh(z - half)), float(np.tanh(z + half))
    return Estimate(value, low, high, f"{kind}, Fisher z", a.size, confidence=confidence, note=note)


def chatterjee_xi(x: ArrayLike, y: ArrayLike, seed: int = 0) -> Estimate:
    """Chatterjee's xi (2021): 0 when y does not depend on x, 1 when it is a function of x. Not symmetric.

    Ties in x are broken at random (seeded), as the paper has it. No interval is given.
    """
    a, b = _pair(x, y)
    n = a.size
    if n < 4 or not varies(a) or not varies(b):
        return undefined("Chatterjee xi", n, "fewer than four pairs, or one of the two does not vary")
    shuffle = np.random.default_rng(seed).permutation(n)
    order = shuffle[np.argsort(a[shuffle], kind="stable")]
    inside = np.sort(b)
    up = np.searchsorted(inside, b[order], side="right").astype(float)  # how many are at most, and at least, as large
    down = n - np.searchsorted(inside, b, side="left").astype(float)
    value = 1 - n * np.abs(np.diff(up)).sum() / (2 * float((down * (n - down)).sum()))
    return Estimate(float(value), None, None, "Chatterjee xi", n, note="no interval is given for xi")


# Association of two quantities within runs, with the run as the unit: what pooling the rows of all runs gets wrong.


#: Above this mean rank correlation of the residuals of x between runs, the runs met the same rows in the same order.
SAME_ORDER = 0.5
Remake = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _residual_ranks(series: NDArray[np.float64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ranks without what all rows of a step share, shape (..., rows); with one row a step, of first differences."""
    _, index, counts = np.unique(steps, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        ranks = stats.rankdata(np.diff(series, axis=-1), axis=-1)
        return np.asarray(ranks - ranks.mean(axis=-1, keepdims=True))
    member = np.zeros((steps.size, counts.size))
    member[np.arange(steps.size), index] = 1.0
    ranks = stats.rankdata(series, axis=-1)
    return np.asarray(ranks - (ranks @ member / counts)[..., index])


def _fisher(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
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
    if a.shape != b.shape or a.ndim != 2 or clock.shape != a.shape[1:]:
        raise ValueError(f"within_runs: shapes {a.shape}, {b.shape} and steps {clock.shape}; give (runs, rows)")
    runs, rows = a.shape
    if runs < 2 or rows < 4:
        return undefined(
            name, rows, "one run: nothing to compare its correlation with" if runs < 2 else "few rows", runs
        )
    own = _residual_ranks(a, clock)
    between = np.tanh(_fisher(own[:, None], own[None]))[~np.eye(runs, dtype=bool)]
    same = bool(np.nanmean(between) > SAME_ORDER) if np.isfinite(between).any() else False
    others = np.roll(a, rows // 2, axis=1) if same else a
    turned = _residual_ranks(others, clock) if same else own
    beyond = []
    for run in range(runs):
        table = np.where(np.arange(runs)[:, None] == run, a, others)
        outcome = np.broadcast_to(b[run], table.shape) if remake is None else remake(table, b[run])
        z = _fisher(np.where(np.arange(runs)[:, None] == run, own, turned), _residual_ranks(outcome, clock))
        foreign = np.delete(z, run)
        if np.isfinite(z[run]) and np.isfinite(foreign).any():
            beyond.append(float(z[run] - np.nanmean(foreign)))
    if not beyond:
        return undefined(name, rows, "one of the two does not vary within any run", 0)
    inner = seed_interval(beyond, rows, confidence)
    value, low, high = (None if t is None else float(np.tanh(t)) for t in (inner.estimate, inner.low, inner.high))
    return Estimate(value, low, high, name, rows, len(beyond), confidence=confidence, note=inner.note)
