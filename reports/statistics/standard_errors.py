"""Standard errors of a mean over prompts: plain, clustered, paired, clustered and paired (Miller 2411.00640)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .results import Estimate, undefined


def plain(values: ArrayLike) -> float:
    """Standard error of the mean of independent values, shape (n,): sd / sqrt(n). NaN for n < 2."""
    x = np.asarray(values, dtype=float)
    return float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else float("nan")


def clustered(values: ArrayLike, groups: Sequence[object]) -> float:
    """Standard error of the mean when values of one group move together: values and groups have shape (n,).

    sqrt(G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2) / n, which is the plain error when every group has one value.
    NaN for fewer than two groups.
    """
    x = np.asarray(values, dtype=float)
    if x.size != len(groups):
        raise ValueError(f"clustered: {x.size} values but {len(groups)} groups; give one group per value")
    _, index = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    count = int(index.max()) + 1 if index.size else 0
    if count < 2:
        return float("nan")
    sums = np.bincount(index, weights=x - x.mean())
    return float(np.sqrt(count / (count - 1) * np.sum(sums**2)) / x.size)


def paired(a: ArrayLike, b: ArrayLike) -> float:
    """Standard error of mean(a) - mean(b) for values of the same items, shape (n,) each."""
    return plain(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))


def clustered_paired(a: ArrayLike, b: ArrayLike, groups: Sequence[object]) -> float:
    """Clustered standard error of the paired difference; shapes (n,)."""
    return clustered(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), groups)


def mean_interval(values: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95) -> Estimate:
    """Mean of item values, shape (n,), with a t interval; clustered when groups repeat.

    Degrees of freedom are the number of groups (or items) minus one.
    """
    x = np.asarray(values, dtype=float)
    repeats = groups is not None and len(set(groups)) < len(groups)
    name = "clustered t interval over items" if repeats else "t interval over items"
    if x.size == 0:
        return undefined(name, 0, "no items")
    error = clustered(x, groups) if repeats and groups is not None else plain(x)
    units = len(set(groups)) if repeats and groups is not None else x.size
    if not np.isfinite(error):
        return Estimate(float(x.mean()), None, None, name, x.size, note="one item or group has no spread to measure")
    half = float(special.stdtrit(units - 1, 0.5 + confidence / 2)) * error
    mean = float(x.mean())
    return Estimate(mean, mean - half, mean + half, name, x.size, stderr=error, confidence=confidence)
