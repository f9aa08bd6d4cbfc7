"""One method over several benchmarks (interquartile mean, probability of improvement, performance profile) or matrices.

Definitions of Agarwal et al. (2108.13264). A policy's scores on several benchmarks are not independent, so the bootstrap
draws whole runs, not a run a benchmark as that paper's does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from reports.statistics.results import Estimate, undefined

Floats = NDArray[np.float64]
REPLICATES = 2000


def _table(scores: ArrayLike) -> Floats:
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or min(x.shape) == 0 or not np.isfinite(x).all():
        raise ValueError(f"aggregates: shape {x.shape}; give finite scores of (runs, benchmarks)")
    return x


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores, shape (runs, benchmarks): a quarter is left out at each end (rounded down)."""
    return float(_middle(_table(scores)[None])[0])


def _middle(draws: Floats) -> Floats:
    """Interquartile means of draws of shape (draws, runs, benchmarks)."""
    flat = np.sort(draws.reshape(len(draws), -1), axis=1)
    cut = flat.shape[1] // 4
    means: Floats = flat[:, cut : flat.shape[1] - cut].mean(axis=1)
    return means


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> float:
    """Chance that a run of the first scores higher than one of the second, ties half, averaged over benchmarks.

    Shapes (runs, benchmarks); the runs need not pair, the benchmarks must (else ValueError).
    """
    x, y = _table(first), _table(second)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"probability_of_improvement: {x.shape[1]} and {y.shape[1]} benchmarks; give the same of both")
    return float(_wins(x, y).mean())


def _wins(x: Floats, y: Floats) -> Floats:
    """1, 0.5 or 0 for every run of x against every one of y, averaged over benchmarks, shape (runs x, runs y)."""
    gap = x[:, None] - y[None]
    wins: Floats = ((gap > 0) + 0.5 * (gap == 0)).mean(axis=2)
    return wins


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Share of all scores above each threshold, shape (thresholds,)."""
    x, t = _table(scores), np.asarray(thresholds, dtype=float)
    shares: Floats = (x.ravel()[None] > t[:, None]).mean(axis=1)
    return shares


def iqm_interval(scores: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The interquartile mean with a percentile interval over runs; `n` counts benchmarks."""
    x = _table(scores)
    draws = np.random.default_rng(seed).integers(0, len(x), (REPLICATES, len(x)))
    return _estimate(interquartile_mean(x), _middle(x[draws]), "interquartile mean", x.shape[1], len(x), confidence)


def improvement_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The probability of improvement with a percentile interval over the runs of both, drawn independently."""
    centre = probability_of_improvement(first, second)
    x, y = _table(first), _table(second)
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(0, len(side), (REPLICATES, len(side))) for side in (x, y))
    means = _wins(x, y)[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    return _estimate(centre, means, "probability of improvement", x.shape[1], min(len(x), len(y)), confidence)


def _estimate(centre: float, draws: Floats, what: str, benchmarks: int, runs: int, confidence: float) -> Estimate:
    name = f"{what}, bootstrap over runs ({REPLICATES} draws)"
    if runs < 2:
        bare = undefined(name, benchmarks, "one run: the spread over runs cannot be estimated", runs)
        return Estimate(centre, None, None, bare.method, benchmarks, runs, note=bare.note)
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(draws, [tail, 1 - tail]))
    note = f"indicative: {runs} runs" if runs < 5 else None
    return Estimate(centre, low, high, name, benchmarks, runs, float(draws.std(ddof=1)), confidence, note)


# One claim in several matrices (base models, data sets): random effects, since the next model is what a reader asks about.


FEWEST_MATRICES = 3


@dataclass(frozen=True, slots=True)
class MetaAnalysis:
    """`mean` over matrices with its interval, the spread of true effects between them, and where that of a new one lies.

    `between`: standard deviation of the true differences. `share`: part of the observed spread that is more than sampling
    error (I squared, 0..1). `seeds`: the fewest paired seeds of a matrix. It is a Comparison of `statistics.family`, so that
    claims over matrices are judged by what judges those of one.
    """

    mean: Estimate
    between: float
    share: float
    new_matrix: tuple[float, float] | None
    seeds: int

    def p_above(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the mean difference is at most `null`; None with too few matrices."""
        if self.mean.estimate is None or self.mean.low is None or self.mean.stderr is None:
            return None
        return float(special.stdtr(self.mean.n - 1, (null - self.mean.estimate) / self.mean.stderr))

    def p_below(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the mean difference is at least `null`; None with too few matrices."""
        above = self.p_above(null)
        return None if above is None else 1 - above


def random_effects(differences: ArrayLike, errors: ArrayLike, seeds: int, confidence: float = 0.95) -> MetaAnalysis:
    """Random-effects mean of one difference per matrix with its standard error, shapes (matrices,).

    Spread between matrices by DerSimonian and Laird (1986); interval by Hartung and Knapp (2001), t with matrices - 1
    degrees of freedom, never shorter than with their factor at 1 (Roever, Knapp and Friede 2015). Two matrices give one
    degree of freedom: their mean is shown, nothing is judged.
    """
    d, se = np.asarray(differences, dtype=float), np.asarray(errors, dtype=float)
    name = "random effects over matrices, Hartung-Knapp t"
    if d.shape != se.shape or d.ndim != 1 or not d.size or not (se > 0).all():
        raise ValueError(
            f"random_effects: shapes {d.shape} and {se.shape}; give a difference and an error above 0 of each"
        )
    count, fixed = d.size, 1 / se**2
    scatter = float(fixed @ (d - fixed @ d / fixed.sum()) ** 2)
    room = float(fixed.sum() - (fixed**2).sum() / fixed.sum())
    between = max(0.0, (scatter - (count - 1)) / room) if count > 1 else 0.0
    weight = 1 / (se**2 + between)
    mean = float(weight @ d / weight.sum())
    share = max(0.0, (scatter - (count - 1)) / scatter) if scatter > 0 else 0.0
    if count < FEWEST_MATRICES:
        few = (
            "one matrix has no spread over matrices"
            if count == 1
            else "two matrices are too few: one degree of freedom"
        )
        bare = Estimate(mean, None, None, name, count, note=f"{few}; nothing is judged over matrices")
        return MetaAnalysis(bare, between**0.5, share, None, seeds)
    factor = max(1.0, float(weight @ (d - mean) ** 2) / (count - 1))
    error = (factor / float(weight.sum())) ** 0.5
    half = float(special.stdtrit(count - 1, 0.5 + confidence / 2)) * error
    reach = float(special.stdtrit(count - 2, 0.5 + confidence / 2)) * (between + error**2) ** 0.5
    found = Estimate(mean, mean - half, mean + half, name, count, None, error, confidence)
    return MetaAnalysis(found, between**0.5, share, (mean - reach, mean + reach), seeds)
