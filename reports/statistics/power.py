"""What could have been seen: minimum detectable effect, and how many seeds or prompts a given effect needs."""

from __future__ import annotations

import math

from scipy import special, stats

#: z(.975) + z(.80): two-sided .05 with power .80.
DETECTION = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.80))


def minimum_detectable_effect(stderr: float, degrees: float | None = None) -> float:
    """Smallest true difference found in 80 % of repetitions at two-sided .05: 2.8016 * SE.

    With few units the standard error is itself a guess: give the degrees of freedom (seeds minus one) and the t
    quantiles replace the normal ones (14.1 * SE for two seeds).
    """
    if not stderr >= 0:
        raise ValueError(f"minimum_detectable_effect: standard error {stderr} must be at least 0")
    if degrees is None:
        return DETECTION * stderr
    if degrees < 1:
        raise ValueError(f"minimum_detectable_effect: {degrees} degrees of freedom; at least two units are needed")
    return float(special.stdtrit(degrees, 0.975) + special.stdtrit(degrees, 0.80)) * stderr


def units_needed(sd: float, effect: float, least: int = 2, limit: int = 100_000) -> int | None:
    """Seeds (or prompts) needed to detect `effect` when one unit's paired difference has spread `sd`.

    Uses the t distribution, which matters for few units; None for a zero effect or beyond `limit`.
    """
    if effect == 0 or not math.isfinite(effect) or not math.isfinite(sd):
        return None
    n = max(least, math.ceil((DETECTION * sd / abs(effect)) ** 2))
    if n > limit:
        return None
    while (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.80, n - 1)) * sd / math.sqrt(n) > abs(effect):
        n += 1
    return n
