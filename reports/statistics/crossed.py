"""Mean of paired differences when seeds and prompts are both samples: every seed meets the same prompts.

The t interval over seeds holds the prompts fixed. A claim about a method is about other prompts too, and a prompt that
favours one method favours it under every seed, so averaging over seeds never removes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .results import Estimate, undefined

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
        return CrossedMean(centre, None, None, seeds, prompts, "the differences do not vary: no spread to go by")
    few = f"only {seeds} seeds" if seeds < 5 else None
    return CrossedMean(centre, math.sqrt(variance), degrees, seeds, prompts, few, squares)
