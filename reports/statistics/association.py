"""Association of two variables: Pearson, Spearman, Kendall, and Chatterjee's xi for links that are not monotone."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .autocorrelation import effective_sample_size
from .results import Estimate, undefined


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
        return undefined(kind, a.size, "one of the two does not vary, so there is no correlation")
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
