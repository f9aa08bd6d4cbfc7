"""Estimates with their intervals, tests, and standard errors of means, proportions and differences."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from reports.runs.records import finite
from reports.schema.base import Estimate, Test

Floats = NDArray[np.float64]

# How every statistic fills its record: the number, how it was computed, from how many, and why it may not be trusted.
#
# What is not finite becomes null, and a null has a reason beside it.


def estimated(
    value: float | None,
    low: float | None,
    high: float | None,
    method: str,
    n: int,
    seeds: int | None = None,
    stderr: float | None = None,
    confidence: float = 0.95,
    note: str | None = None,
) -> Estimate:
    """An estimate with its interval, in the unit of the data.

    `n` counts items (prompts, rows), `seeds` the training seeds where they are the unit.
    """
    known = {"value": finite(value), "low": finite(low), "high": finite(high)}
    reason = (note or "not defined for these data") if None in known.values() else None
    return Estimate(
        **known, stderr=finite(stderr), confidence=confidence, method=method, n=n, seeds=seeds, note=note, reason=reason
    )


def undefined(method: str, n: int, note: str, seeds: int | None = None) -> Estimate:
    """An estimate that does not exist, with the reason."""
    return estimated(None, None, None, method, n, seeds, note=note)


def t_interval(
    value: float,
    stderr: float,
    degrees: float,
    method: str,
    n: int,
    seeds: int | None = None,
    confidence: float = 0.95,
    note: str | None = None,
) -> Estimate:
    """The value with its t interval; with infinite degrees of freedom it is the normal one. None without a standard error."""
    half = float(special.stdtrit(degrees, 0.5 + confidence / 2)) * stderr
    return estimated(value, value - half, value + half, method, n, seeds, stderr, confidence, note)


def outcome(
    p: float | None,
    method: str,
    n: int,
    seeds: int | None = None,
    smallest: float | None = None,
    note: str | None = None,
) -> Test:
    """A two-sided test. `smallest` is the minimum possible p of the design, None where that is not a limit."""
    p = finite(p)
    reason = (note or "not defined for these data") if p is None else None
    return Test(p_value=p, method=method, n=n, seeds=seeds, smallest_p=finite(smallest), note=note, reason=reason)


def turned(found: Estimate) -> Estimate:
    """The estimate of the opposite difference."""
    value, low, high = (None if v is None else -v for v in (found.value, found.high, found.low))
    return found.model_copy(update={"value": value, "low": low, "high": high})


# Standard errors and intervals of means, proportions and differences.


# Standard errors of a mean over prompts: plain and clustered (Miller 2411.00640).


def plain(values: ArrayLike) -> float:
    """Standard error of the mean of independent values, shape (n,): sd / sqrt(n). NaN for n < 2."""
    x = np.asarray(values, dtype=float)
    return float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else float("nan")


def group_columns(values: ArrayLike, groups: Sequence[object]) -> Floats:
    """One column per group of items, from values of shape (..., items); the mean over columns is that over items.

    A row's mean plus the centred sum of the group, scaled by groups per item: the spread of the columns is then that of
    the clustered standard error, sqrt(G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2) / n, also where groups differ in
    size. (Raw sums would add the spread of the sizes times the mean.) Values are returned as they are where every group
    has one item. ValueError where values and groups differ in number.
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
    return np.asarray(means + (x - means) @ member)


def mean_interval(values: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95) -> Estimate:
    """Mean of item values, shape (n,), with a t interval; clustered when groups repeat.

    Degrees of freedom are the number of groups (or items) minus one.
    """
    x = np.asarray(values, dtype=float)
    cells = x if groups is None else group_columns(x, groups)
    name = "clustered t interval over items" if cells.size < x.size else "t interval over items"
    if not x.size:
        return undefined(name, 0, "no items")
    note = None if cells.size > 1 else "one item or group has no spread to measure"
    return t_interval(float(x.mean()), plain(cells), cells.size - 1, name, x.size, None, confidence, note)


def difference_interval(differences: ArrayLike, groups: Sequence[object] | None = None) -> Estimate:
    """`mean_interval` of paired differences; without an interval where they do not vary, which is no proof of certainty."""
    d = np.asarray(differences, dtype=float)
    found = mean_interval(d, groups)
    if d.size < 2 or np.ptp(d) > 0:
        return found
    note = f"all {d.size} differences are equal: no spread to estimate from"
    return estimated(found.value, None, None, found.method, d.size, note=note)


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
    if n == 0:
        return undefined("Wilson", 0, "no items")
    p = successes / n
    error = math.sqrt(p * (1 - p) / n)
    return estimated(p, *wilson_bounds(p, n, confidence), "Wilson", n, stderr=error, confidence=confidence)


def largest_failure_rate(failed: int, runs: int, confidence: float = 0.95) -> float:
    """Upper Clopper-Pearson bound of the rate at which runs fail: .45 for 5 runs of which none failed."""
    return 1.0 if failed == runs else float(special.betaincinv(failed + 1, runs - failed, confidence))


# Difference of two means that share no items: what is left when prompts cannot be paired.


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
    name, n = "Welch interval, unpaired", min((c for c in counts if c is not None), default=0)
    first, second = (math.nan if error is None else error**2 for error in errors)
    error, degrees, note = math.sqrt(first + second), math.inf, None
    if counts[0] is None or counts[1] is None:
        note = "normal quantile: the numbers of items are unknown"
    elif min(counts[0], counts[1]) > 1 and error > 0:
        degrees = (first + second) ** 2 / (first**2 / (counts[0] - 1) + second**2 / (counts[1] - 1))
    if not error > 0 or n == 1:
        error, note = math.nan, "a side has no standard error, or fewer than two items"
    return t_interval(means[0] - means[1], error, degrees, name, n, None, confidence, note)
