"""Method-level inference: the training seed is the unit. Prompts are averaged within a seed first."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .results import Estimate, Test, undefined

EXACT_SEEDS = 20  # 2^20 sign patterns: a second and a few megabytes


def smallest_paired_p(seeds: int) -> float:
    """Least two-sided p of the exact paired permutation test with this many seeds: 2 / 2^S."""
    return min(1.0, 2.0 ** (1 - seeds))


def seeds_for_exact_test(alpha: float = 0.05) -> int:
    """Fewest seeds with which the exact paired test can reach alpha at all (6 for .05)."""
    seeds = 1
    while smallest_paired_p(seeds) > alpha:
        seeds += 1
    return seeds


def seed_interval(
    values: ArrayLike, items: int = 0, confidence: float = 0.95, bounds: tuple[float, float] | None = None
) -> Estimate:
    """t interval, S-1 degrees of freedom, for the mean of one value per seed, shape (S,).

    Give per-seed means for a method's level, per-seed differences for a paired comparison. `items` is the number of
    prompts behind each value; `bounds` cuts the interval to the range the values can have (a share lies in 0..1).
    The interval holds the prompts fixed: it says how another seed would differ.
    """
    x = np.asarray(values, dtype=float)
    name = "t interval over seeds"
    if x.size == 0:
        return undefined(name, items, "no finished seed", 0)
    mean = float(x.mean())
    if x.size == 1:
        return Estimate(mean, None, None, name, items, 1, note="one seed: the spread over seeds cannot be estimated")
    if np.ptp(x) == 0:
        return Estimate(
            mean, None, None, name, items, x.size, note=f"all {x.size} seeds agree exactly: no spread to estimate from"
        )
    error = float(x.std(ddof=1) / np.sqrt(x.size))
    half = float(special.stdtrit(x.size - 1, 0.5 + confidence / 2)) * error
    note = f"only {x.size} seeds: the interval rests on {x.size - 1} degree(s) of freedom" if x.size < 5 else None
    low, high = mean - half, mean + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(mean, low, high, name, items, x.size, error, confidence, note)


def seed_t_test(differences: ArrayLike) -> Test:
    """Two-sided paired t test on one difference per seed, shape (S,)."""
    d = np.asarray(differences, dtype=float)
    if d.size < 2:
        return Test(None, "paired t over seeds", 0, d.size, note=f"not attainable with S={d.size}")
    if np.ptp(d) == 0:
        p = 1.0 if d[0] == 0 else None
        return Test(p, "paired t over seeds", 0, d.size, note="the differences do not vary over seeds")
    p = float(stats.ttest_1samp(d, 0.0).pvalue)
    return Test(p, "paired t over seeds", 0, d.size)


def seed_permutation(differences: ArrayLike, alpha: float = 0.05) -> Test:
    """Exact sign-flip test on one difference per seed, shape (S,), all 2^S patterns.

    When 2/2^S exceeds alpha the note reads `not attainable with S=...`: no data could have given a smaller p.
    """
    d = np.asarray(differences, dtype=float)
    name = "exact sign-flip permutation over seeds"
    if d.size == 0:
        return Test(None, name, 0, 0, note="no paired seed")
    if d.size > EXACT_SEEDS:
        raise ValueError(f"seed_permutation: {d.size} seeds; at most {EXACT_SEEDS} are enumerated, use sign_flip")
    least = smallest_paired_p(d.size)
    patterns = np.arange(2**d.size)[:, None] >> np.arange(d.size) & 1
    sums = np.abs((2 * patterns - 1) @ d)
    p = float((sums >= abs(d.sum()) * (1 - 1e-12)).mean())
    note = f"p <= {alpha:g} is not attainable with S={d.size} (least p {least:.3g})" if least > alpha else None
    return Test(p, name, 0, d.size, least, note)
