"""Intervals for a proportion from few items, where the normal interval fails (Bowyer 2503.01747)."""

from __future__ import annotations

import math

from scipy import special, stats

from .results import Estimate, undefined


def _check(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"proportion: {successes} successes of {n}; successes must lie in 0..n")


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson score interval for successes out of n."""
    _check(successes, n)
    if n == 0:
        return undefined("Wilson", 0, "no items")
    z = float(special.ndtri(0.5 + confidence / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 or n successes the bound is exactly 0 or 1; rounding may leave it a hair outside.
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == n else min(centre + half, 1.0)
    return Estimate(p, low, high, "Wilson", n, stderr=math.sqrt(p * (1 - p) / n), confidence=confidence)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Exact (conservative) interval for successes out of n, from the beta distribution."""
    _check(successes, n)
    if n == 0:
        return undefined("Clopper-Pearson", 0, "no items")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.ppf(1 - tail, successes + 1, n - successes))
    p = successes / n
    return Estimate(p, low, high, "Clopper-Pearson", n, stderr=math.sqrt(p * (1 - p) / n), confidence=confidence)
