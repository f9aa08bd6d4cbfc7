"""One claim in several matrices (base models, data sets): random effects, since the next model is what a reader asks about."""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from reports.schema.base import Estimate
from reports.statistics.crossed import Means
from reports.statistics.intervals import t_interval

FEWEST_MATRICES = 3


@dataclass(frozen=True, slots=True)
class MetaAnalysis(Means):
    """The mean over matrices with its `interval`, the spread of true effects between them, and where that of a new one lies.

    `between`: standard deviation of the true differences. `share`: part of the observed spread that is more than sampling
    error (I squared, 0..1). `seeds`: the fewest paired seeds of a matrix. It is a Comparison of `statistics.family`, so that
    claims over matrices are judged by what judges those of one; its p-values are NaN with too few matrices.
    """

    interval: Estimate
    between: float
    share: float
    new_matrix: tuple[float, float] | None
    seeds: int


def random_effects(differences: ArrayLike, errors: ArrayLike, seeds: int, confidence: float = 0.95) -> MetaAnalysis:
    """Random-effects mean of one difference per matrix with its standard error above 0, shapes (matrices,).

    Spread between matrices by DerSimonian and Laird (1986); interval by Hartung and Knapp (2001), t with matrices - 1
    degrees of freedom, never shorter than with their factor at 1 (Roever, Knapp and Friede 2015). Two matrices give one
    degree of freedom: their mean is shown, nothing is judged.
    """
    d, se = np.asarray(differences, dtype=float), np.asarray(errors, dtype=float)
    name = "random effects over matrices, Hartung-Knapp t"
    count, fixed = d.size, 1 / se**2
    scatter = float(fixed @ (d - fixed @ d / fixed.sum()) ** 2)
    room = float(fixed.sum() - (fixed**2).sum() / fixed.sum())
    between = max(0.0, (scatter - (count - 1)) / room) if count > 1 else 0.0
    weight = 1 / (se**2 + between)
    mean = float(weight @ d / weight.sum())
    share = max(0.0, (scatter - (count - 1)) / scatter) if scatter > 0 else 0.0
    error, new, note = nan, None, None
    if count < FEWEST_MATRICES:
        few = "two matrices are too few: one degree of freedom"
        note = f"{'one matrix has no spread over matrices' if count == 1 else few}; nothing is judged over matrices"
    else:
        error = (max(1.0, float(weight @ (d - mean) ** 2) / (count - 1)) / float(weight.sum())) ** 0.5
        reach = float(special.stdtrit(count - 2, 0.5 + confidence / 2)) * (between + error**2) ** 0.5
        new = (mean - reach, mean + reach)
    interval = t_interval(mean, error, count - 1, name, count, None, confidence, note)
    value, stderr, degrees = (np.asarray(v, dtype=float) for v in (mean, error, count - 1))
    return MetaAnalysis(value, stderr, degrees, interval, between**0.5, share, new, seeds)
