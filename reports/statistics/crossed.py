"""Means over crossed seeds and prompts: variance components, bootstrap, interactions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from reports.statistics.intervals import mean_interval
from reports.statistics.resampling import crossed_weights
from reports.statistics.results import Estimate, undefined

# Mean of paired differences when seeds and prompts are both samples: every seed meets the same prompts.
#
# The t interval over seeds holds the prompts fixed. A claim about a method is about other prompts too, and a prompt that
# favours one method favours it under every seed, so averaging over seeds never removes it.


NAME = "crossed seeds x prompts, Satterthwaite t"


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """Two-way mean squares of differences with shape (seeds, prompts), one value per cell."""

    seed: float
    prompt: float
    residual: float
    seeds: int
    prompts: int


@dataclass(frozen=True, slots=True)
class CrossedMean:
    """A mean difference with its standard error and degrees of freedom (None where they do not exist)."""

    estimate: float | None
    stderr: float | None
    degrees: float | None
    seeds: int
    prompts: int
    note: str | None = None
    squares: MeanSquares | None = None

    def p_above(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the true difference is at most `null`."""
        if self.estimate is None or self.stderr is None or self.degrees is None:
            return None
        return float(special.stdtr(self.degrees, (null - self.estimate) / self.stderr))

    def p_below(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the true difference is at least `null`."""
        above = self.p_above(null)
        return None if above is None else 1 - above

    def interval(self, confidence: float = 0.95) -> Estimate:
        """The difference with its interval, in the unit of the data."""
        if self.estimate is None or self.stderr is None or self.degrees is None:
            note = self.note or "no interval"
            if self.estimate is None:
                return undefined(NAME, self.prompts, note, self.seeds)
            return Estimate(self.estimate, None, None, NAME, self.prompts, self.seeds, note=note)
        half = float(special.stdtrit(self.degrees, 0.5 + confidence / 2)) * self.stderr
        low, high = self.estimate - half, self.estimate + half
        return Estimate(self.estimate, low, high, NAME, self.prompts, self.seeds, self.stderr, confidence, self.note)


def mean_squares(differences: ArrayLike) -> MeanSquares:
    """Mean squares of an array of shape (S, P) with S >= 2 and P >= 2; finite values only (else ValueError)."""
    d = np.asarray(differences, dtype=float)
    if d.ndim != 2 or min(d.shape) < 2 or not np.isfinite(d).all():
        raise ValueError(f"mean_squares: shape {d.shape}; give finite differences of 2 or more seeds and prompts")
    seeds, prompts = d.shape
    by_seed, by_prompt, centre = d.mean(axis=1), d.mean(axis=0), d.mean()
    seed = prompts * float(((by_seed - centre) ** 2).sum()) / (seeds - 1)
    prompt = seeds * float(((by_prompt - centre) ** 2).sum()) / (prompts - 1)
    rest = float(((d - centre) ** 2).sum()) - seed * (seeds - 1) - prompt * (prompts - 1)
    return MeanSquares(seed, prompt, max(rest, 0.0) / ((seeds - 1) * (prompts - 1)), seeds, prompts)


def variance_of_mean(squares: MeanSquares) -> tuple[float, float]:
    """Variance of the mean over all cells and its degrees of freedom.

    (MS_seed + MS_prompt - MS_residual) / (S P), Satterthwaite degrees (Satterthwaite 1946; Clark 1973 has the same
    design with subjects and words). Never below what the seeds alone show.
    """
    cells, s, p = squares.seeds * squares.prompts, squares.seeds - 1, squares.prompts - 1
    total = squares.seed + squares.prompt - squares.residual
    if total <= squares.seed:
        return squares.seed / cells, float(s)
    spread = squares.seed**2 / s + squares.prompt**2 / p + squares.residual**2 / (s * p)
    return total / cells, total**2 / spread


def crossed_mean(differences: ArrayLike) -> CrossedMean:
    """Mean of paired differences, shape (S, P), with both seeds and prompts as samples.

    With one prompt column (a figure per seed, such as the reward at a matched KL) it is the t interval over seeds.
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 2:
        raise ValueError(f"crossed_mean: shape {d.shape}; give one row per seed, one column per prompt")
    seeds, prompts = d.shape
    if d.size == 0:
        return CrossedMean(None, None, None, seeds, prompts, "no seed and prompt that both sides finished")
    centre = float(d.mean())
    if seeds < 2:
        return CrossedMean(centre, None, None, seeds, prompts, "one seed: the spread over seeds cannot be estimated")
    squares = None
    if prompts == 1:
        variance, degrees = float(d[:, 0].var(ddof=1)) / seeds, float(seeds - 1)
    else:
        squares = mean_squares(d)
        variance, degrees = variance_of_mean(squares)
    if not variance > np.finfo(float).eps ** 2 * max(centre**2, 1e-300):
        return CrossedMean(centre, None, None, seeds, prompts, "all differences are equal; no interval")
    if (
        degrees < 0.5
    ):  # the spread is a small difference of large mean squares, and the interval spans many powers of ten
        return CrossedMean(centre, None, None, seeds, prompts, "under half a degree of freedom; no interval", squares)
    few = f"only {seeds} seeds" if seeds < 5 else None
    return CrossedMean(centre, math.sqrt(variance), degrees, seeds, prompts, few, squares)


# Hierarchical bootstrap: seeds resampled, then one sample of items shared by all methods.


def hierarchical_means(values: ArrayLike, replicates: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Bootstrap means, shape (methods, replicates), of values with shape (methods, seeds, items).

    Items are crossed with seeds and methods, so each replicate draws one multiset of seeds and one of items and uses
    them for every method: differences between rows are paired.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 3:
        raise ValueError(f"hierarchical_means: values must have shape (methods, seeds, items), got {x.shape}")
    methods, seeds, items = x.shape
    if min(x.shape) == 0 or not np.isfinite(x).all():
        raise ValueError("hierarchical_means: values must be finite and non-empty; keep shared seeds and items only")
    out = np.empty((methods, replicates))
    flat = x.reshape(methods * seeds, items)
    start = 0
    for seed_weight, item_weight in crossed_weights(seeds, items, replicates, seed):
        size = len(seed_weight)
        per_seed = (flat @ item_weight.T).reshape(methods, seeds, size)
        out[:, start : start + size] = np.einsum("msr,rs->mr", per_seed, seed_weight)
        start += size
    return out


def hierarchical_difference(
    a: ArrayLike, b: ArrayLike, replicates: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Percentile interval for mean(a) - mean(b), both of shape (seeds, items), seeds and items matched.

    Labelled indicative below five seeds: with S=3 there are only 10 distinct seed multisets.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    name = f"hierarchical bootstrap over seeds and items ({replicates} draws)"
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"hierarchical_difference: shapes {x.shape} and {y.shape}; give two (seeds, items) arrays")
    seeds, items = x.shape
    if seeds < 2 or items < 2:
        return undefined(name, items, "fewer than two seeds or items to resample", seeds)
    means = hierarchical_means((x - y)[None], replicates, seed)[0]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    multisets = comb(2 * seeds - 1, seeds)
    note = f"indicative: {seeds} seeds give {multisets} distinct seed multisets" if seeds < 5 else None
    error = float(means.std(ddof=1))
    return Estimate(float((x - y).mean()), float(low), float(high), name, items, seeds, error, confidence, note)


# Does a paired difference change with a property of the prompt? Slope over prompts, with seeds and prompts as samples.


FEWEST_PROMPTS = 10


def slope_influence(differences: ArrayLike, covariate: ArrayLike) -> NDArray[np.float64]:
    """Cells whose mean is the slope of the differences, shape (S, P), on the covariate, shape (P,), in its own unit.

    slope_s + x_p e_sp / (1 - h_p) / mean(x^2), x centred, e the residuals of each seed's own line and h the leverage of the
    prompt: row means are the slopes of the seeds, and the two-way spread is the cluster-robust variance with seeds and
    prompts as clusters (Cameron, Gelbach and Miller 2011), whatever the heteroscedasticity; without the leverage a few
    extreme prompts would make it too small (HC3, MacKinnon and White 1985).
    """
    d, x = np.asarray(differences, dtype=float), np.asarray(covariate, dtype=float)
    if d.ndim != 2 or x.shape != (d.shape[1],) or not np.isfinite(d).all() or not np.isfinite(x).all():
        raise ValueError(
            f"slope_influence: shapes {d.shape} and {x.shape}; give finite (seeds, prompts) and (prompts,)"
        )
    x = x - x.mean()
    square = float(x @ x)
    if not square > 0:
        raise ValueError("slope_influence: the covariate does not vary")
    centred = d - d.mean(axis=1, keepdims=True)
    slopes = (centred @ x / square)[:, None]
    leverage = 1 / x.size + x**2 / square
    parts = x * (centred - slopes * x) / np.maximum(1 - leverage, 1e-12) * (x.size / square)
    cells: NDArray[np.float64] = slopes + parts - parts.mean(axis=1, keepdims=True)
    return cells


def interaction(differences: ArrayLike, covariate: ArrayLike) -> tuple[CrossedMean, Estimate]:
    """The slope with its spread, and its interval; of one seed the interval is over its prompts only.

    Below `FEWEST_PROMPTS` prompts, or with a covariate that does not vary, nothing is estimated and the note says why.
    """
    d, x = np.asarray(differences, dtype=float), np.asarray(covariate, dtype=float)
    if d.size == 0 or x.size < FEWEST_PROMPTS or np.ptp(x) == 0:
        why = "the covariate does not vary" if x.size >= FEWEST_PROMPTS else f"fewer than {FEWEST_PROMPTS} prompts"
        nothing = CrossedMean(None, None, None, d.shape[0], d.shape[1], why)
        return nothing, nothing.interval()
    cells = slope_influence(d, x)
    mean = crossed_mean(cells)
    if mean.degrees is not None:
        # The slope rests on the prompts far from the mean: so many of equal weight (Bell and McCaffrey 2002, in spirit).
        apart = (x - x.mean()) ** 2
        mean = replace(mean, degrees=min(mean.degrees, float(apart.sum() ** 2 / (apart @ apart))))
    if mean.seeds == 1 and np.ptp(cells) > 0:
        only = mean_interval(cells[0])
        return mean, replace(only, seeds=1, note="one seed: over its prompts only, it says nothing of another seed")
    return mean, mean.interval()
