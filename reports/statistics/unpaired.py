"""Difference of two means that share no items: what is left when prompts cannot be paired."""

from __future__ import annotations

import math

from scipy import stats

from .results import Estimate, undefined

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
