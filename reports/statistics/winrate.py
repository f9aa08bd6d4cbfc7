"""Win rates from preferences in [0, 1], ties at one half, and how far the order of the answers decided them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .proportions import wilson
from .results import Estimate, undefined
from .standard_errors import mean_interval

#: Below this many prompts the normal interval of a share is too narrow (Bowyer 2503.01747) and Wilson's is given.
FEW = 100


@dataclass(frozen=True, slots=True)
class WinRate:
    """Share of comparisons won, ties counted one half, and the counts behind it.

    `failed` comparisons (no verdict) are in no other figure.
    """

    rate: Estimate
    wins: int
    losses: int
    draws: int
    failed: int

    @property
    def discrete(self) -> float | None:
        """Win rate of the rounded verdicts: a graded preference above one half counts as a whole win."""
        n = self.wins + self.losses + self.draws
        return (self.wins + self.draws / 2) / n if n else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        counts = {"wins": self.wins, "losses": self.losses, "draws": self.draws, "failed": self.failed}
        return {**self.rate.as_dict(), **counts, "discrete": self.discrete}


@dataclass(frozen=True, slots=True)
class PositionEffect:
    """Whether a judge's verdict survives swapping the two answers.

    `consistency`: share of comparisons with the same verdict in both orders. `first_preference`: mean preference for
    whatever stood first, one half without position bias.
    """

    consistency: Estimate
    first_preference: Estimate

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"consistency": self.consistency.as_dict(), "first_preference": self.first_preference.as_dict()}


def checked(preferences: ArrayLike) -> NDArray[np.float64]:
    """Preferences as floats, shape (n,); NaN is a failed comparison. ValueError for values outside [0, 1]."""
    p = np.asarray(preferences, dtype=float)
    if p.ndim != 1:
        raise ValueError(f"preferences: shape {p.shape}; give one value per comparison")
    known = p[~np.isnan(p)]
    if ((known < 0) | (known > 1)).any():
        raise ValueError(f"preferences: {known[(known < 0) | (known > 1)][0]} is outside 0..1; a tie is 0.5")
    return p


def verdicts(preferences: ArrayLike) -> NDArray[np.int64]:
    """1 (first is better), 0 (tie) or -1 of preferences without NaN, shape (n,)."""
    p = checked(preferences)
    if np.isnan(p).any():
        raise ValueError("verdicts: leave failed comparisons (NaN) out first")
    return np.sign(p - 0.5).astype(np.int64)


def win_rate(preferences: ArrayLike, groups: Sequence[object] | None = None, confidence: float = 0.95) -> WinRate:
    """Win rate with its interval over prompts; preferences of shape (n,), NaN where the judge gave no verdict.

    The standard error is sd/sqrt(n), as AlpacaEval has it, or clustered where `groups` (one per preference) repeat.
    With fewer than 100 independent prompts, or when all preferences agree, the interval is Wilson's, which is
    conservative for graded preferences and ties (their variance is below p(1-p)).
    """
    p = checked(preferences)
    if groups is not None and len(groups) != p.size:
        raise ValueError(f"win_rate: {p.size} preferences but {len(groups)} groups; give one group per preference")
    known = ~np.isnan(p)
    kept = p[known]
    counts = int((kept > 0.5).sum()), int((kept < 0.5).sum()), int((kept == 0.5).sum()), int((~known).sum())
    if kept.size == 0:
        return WinRate(undefined("win rate", 0, "no comparison has a verdict"), *counts)
    kept_groups = None if groups is None else [group for group, keep in zip(groups, known, strict=True) if keep]
    interval = mean_interval(kept, kept_groups, confidence)
    units = kept.size if kept_groups is None else len(set(kept_groups))
    if units < FEW or np.ptp(kept) == 0:
        low, high = _wilson_bounds(float(kept.mean()), units, confidence)
        method = f"mean preference, Wilson interval over {units} prompts"
    else:
        low, high = max(interval.low or 0.0, 0.0), min(1.0 if interval.high is None else interval.high, 1.0)
        method = f"mean preference, {interval.method}"
    note = f"{counts[3]} of {p.size} comparisons have no verdict and are left out" if counts[3] else None
    rate = Estimate(
        interval.estimate, low, high, method, kept.size, stderr=interval.stderr, confidence=confidence, note=note
    )
    return WinRate(rate, *counts)


def _wilson_bounds(p: float, n: int, confidence: float) -> tuple[float, float]:
    # Wilson's formula for a share that need not be a whole number of successes.
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if p == 0 else max(centre - half, 0.0)), (1.0 if p == 1 else min(centre + half, 1.0))


def position_effect(forward: ArrayLike, backward: ArrayLike, confidence: float = 0.95) -> PositionEffect:
    """Consistency and bias from the two orders, shape (n,) each, NaN where an order has no verdict.

    Both arrays are preferences for the same policy: `forward` with its answer first, `backward` with it second.
    """
    f, b = checked(forward), checked(backward)
    if f.shape != b.shape:
        raise ValueError(f"position_effect: shapes {f.shape} and {b.shape}; give both orders of the same comparisons")
    both = ~(np.isnan(f) | np.isnan(b))
    f, b = f[both], b[both]
    if f.size == 0:
        nothing = "no comparison has a verdict in both orders"
        return PositionEffect(undefined("Wilson", 0, nothing), undefined("t interval over items", 0, nothing))
    same = int((verdicts(f) == verdicts(b)).sum())
    return PositionEffect(wilson(same, f.size, confidence), mean_interval((f + 1 - b) / 2, confidence=confidence))
