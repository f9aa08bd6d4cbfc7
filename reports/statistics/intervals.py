"""Standard errors and intervals of means, proportions and differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from reports.statistics.results import Estimate, undefined

# Standard errors of a mean over prompts: plain and clustered (Miller 2411.00640).


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


def group_columns(values: ArrayLike, groups: Sequence[object]) -> NDArray[np.float64]:
    """One column per group of items, from values of shape (..., items); the mean over columns is that over items.

    A row's mean plus the centred sum of the group, scaled by groups per item: the spread of the columns is then that of
    the clustered standard error, also where groups differ in size. (Raw sums would add the spread of the sizes times the
    mean.) Values are returned as they are where every group has one item.
    """
    x = np.asarray(values, dtype=float)
    if x.shape[-1] != len(groups):
        raise ValueError(f"group_columns: {x.shape[-1]} items but {len(groups)} groups; give one group per item")
    names, index = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    if names.size == len(groups):
        return x
    member = np.zeros((len(groups), names.size))
    member[np.arange(len(groups)), index] = names.size / len(groups)
    means = x.mean(axis=-1, keepdims=True)
    columns: NDArray[np.float64] = means + (x - means) @ member
    return columns


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


def difference_interval(differences: ArrayLike, groups: Sequence[object] | None = None) -> Estimate:
    """`mean_interval` of paired differences; without an interval where they do not vary, which is no proof of certainty."""
    d = np.asarray(differences, dtype=float)
    found = mean_interval(d, groups)
    if d.size < 2 or np.ptp(d) > 0:
        return found
    note = f"all {d.size} differences are equal: no spread to estimate from"
    return replace(found, low=None, high=None, stderr=None, note=note)


# Intervals for a proportion from few items, where the normal interval fails (Bowyer 2503.01747).


def wilson_bounds(p: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's bounds for a share p of n, which need not be a whole number of successes."""
    z = float(special.ndtri(0.5 + confidence / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At shares of 0 and 1 the bound is exactly 0 or 1; rounding may leave it a hair outside.
    return (0.0 if p == 0 else max(centre - half, 0.0)), (1.0 if p == 1 else min(centre + half, 1.0))


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson score interval for successes out of n."""
    if not 0 <= successes <= n:
        raise ValueError(f"proportion: {successes} successes of {n}; successes must be in 0..n")
    if n == 0:
        return undefined("Wilson", 0, "no items")
    p = successes / n
    low, high = wilson_bounds(p, n, confidence)
    return Estimate(p, low, high, "Wilson", n, stderr=math.sqrt(p * (1 - p) / n), confidence=confidence)


def largest_failure_rate(failed: int, runs: int, confidence: float = 0.95) -> float:
    """Upper Clopper-Pearson bound of the rate at which runs fail: .45 for 5 runs of which none failed."""
    if not 0 <= failed <= runs or not runs:
        raise ValueError(f"failures: {failed} of {runs} runs; give a number in 0..runs of at least one run")
    return 1.0 if failed == runs else float(special.betaincinv(failed + 1, runs - failed, confidence))


# Difference of two means that share no items: what is left when prompts cannot be paired.


NAME = "Welch interval, unpaired"


def welch(
    means: tuple[float, float],
    errors: tuple[float | None, float | None],
    counts: tuple[int | None, int | None],
    confidence: float = 0.95,
) -> Estimate:
    """Mean a - mean b of independent samples, from each side's mean, standard error and number of items.

    The t interval has Welch and Satterthwaite's degrees of freedom (Welch 1947); without the counts the normal one is
    given. It is wider than a paired interval on the same items wherever the two sides' scores move together.
    """
    difference = means[0] - means[1]
    n = min((c for c in counts if c is not None), default=0)
    if errors[0] is None or errors[1] is None:
        return Estimate(difference, None, None, NAME, n, note="a side has no standard error")
    if not all(math.isfinite(v) for v in (*means, errors[0], errors[1])):
        return undefined(NAME, n, "a mean or a standard error is not finite")
    first, second = errors[0] ** 2, errors[1] ** 2
    error = math.sqrt(first + second)
    if error == 0:
        return Estimate(difference, None, None, NAME, n, stderr=0.0, note="neither side has any spread")
    if counts[0] is None or counts[1] is None:
        quantile, note = (
            float(stats.norm.ppf(0.5 + confidence / 2)),
            "normal quantile: the numbers of items are unknown",
        )
    elif min(counts[0], counts[1]) < 2:
        return Estimate(difference, None, None, NAME, n, note="a side has fewer than two items")
    else:
        freedom = (first + second) ** 2 / (first**2 / (counts[0] - 1) + second**2 / (counts[1] - 1))
        quantile, note = float(stats.t.ppf(0.5 + confidence / 2, freedom)), None
    half = quantile * error
    return Estimate(difference, difference - half, difference + half, NAME, n, None, error, confidence, note)
