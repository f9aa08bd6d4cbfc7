"""Means over crossed seeds and prompts: variance components, bootstrap, interactions."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb, nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from reports.schema.base import Estimate, Test
from reports.statistics.intervals import Floats, estimated, mean_interval, outcome, t_interval, undefined
from reports.statistics.paired import every_sign

# Mean of paired differences when seeds and prompts are both samples: every seed meets the same prompts.
#
# The t interval over seeds holds the prompts fixed. A claim about a method is about other prompts too, and a prompt that
# favours one method favours it under every seed, so averaging over seeds never removes it.


NAME = "crossed seeds x prompts, Satterthwaite t"

#: With fewer cells that differ from the rest, the means of the seeds are counts of a few events, and may agree by luck.
FEWEST_MOVING = 10
#: Seeds that agree better than by this chance, were there nothing but the residual, agree because their scores tie.
LUCK = 1e-3
_TIE = 1e-9  # what differs by less, relative to its size, differs by rounding
_NOTHING = 1e-12  # standard error, relative to the largest difference, below which nothing varies


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """Two-way mean squares of differences with shape (seeds, prompts), one value per cell."""

    seed: float
    prompt: float
    residual: float
    seeds: int
    prompts: int


@dataclass(frozen=True, slots=True)
class Means:
    """Mean differences of any shape with their standard errors and degrees of freedom; NaN where these do not exist."""

    value: Floats | float
    stderr: Floats | float
    degrees: Floats | float

    def p_above(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at most `null`; NaN without a standard error."""
        return np.asarray(special.stdtr(self.degrees, (null - self.value) / self.stderr))

    def p_below(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at least `null`; NaN without a standard error."""
        return np.asarray(special.stdtr(self.degrees, (self.value - null) / self.stderr))


@dataclass(frozen=True, slots=True)
class Prior:
    """What other arms say of the seed mean square of a comparison, and how many degrees of freedom that is worth.

    Arrays of the comparisons' shape, or numbers (reports.statistics.moderated makes them).
    """

    seed: Floats
    degrees: Floats


@dataclass(frozen=True, slots=True)
class CrossedMean(Means):
    """A single mean difference; value, standard error and degrees of freedom are numbers.

    `borrowed`: degrees of freedom of the seed variance that other arms lent; `alone` is then the answer without them.
    """

    value: float
    stderr: float
    degrees: float
    seeds: int
    prompts: int
    note: str | None = None
    squares: MeanSquares | None = None
    borrowed: float = 0.0
    alone: "CrossedMean | None" = None

    def interval(self, confidence: float = 0.95) -> Estimate:
        """The difference with its interval, in the unit of the data."""
        return t_interval(self.value, self.stderr, self.degrees, NAME, self.prompts, self.seeds, confidence, self.note)


def without_spread(value: float, seeds: int, prompts: int, note: str) -> CrossedMean:
    """A mean that has no standard error, and why."""
    return CrossedMean(value, nan, nan, seeds, prompts, note)


def _squares(d: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean squares of seeds, prompts and the rest, shape (...), from differences (..., seeds, prompts)."""
    seeds, prompts = d.shape[-2:]
    centred = d - d.mean(axis=(-2, -1), keepdims=True)
    by_seed, by_prompt = centred.mean(axis=-1), centred.mean(axis=-2)
    seed = prompts * np.square(by_seed).sum(axis=-1) / (seeds - 1)
    prompt = seeds * np.square(by_prompt).sum(axis=-1) / (prompts - 1)
    # of the residuals themselves: a difference of large sums would leave rounding where there is nothing
    rest = np.square(centred - by_seed[..., None] - by_prompt[..., None, :]).sum(axis=(-2, -1))
    nothing = (_NOTHING * np.abs(d).max(axis=(-2, -1))) ** 2
    found = (seed, prompt, rest / ((seeds - 1) * (prompts - 1)))
    seed, prompt, rest = (np.where(square > nothing, square, 0.0) for square in found)
    return seed, prompt, rest


def mean_squares(differences: ArrayLike) -> MeanSquares:
    """Mean squares of an array of shape (S, P) with S >= 2 and P >= 2."""
    d = np.asarray(differences, dtype=float)
    seed, prompt, rest = (float(v) for v in _squares(d))
    return MeanSquares(seed, prompt, rest, *d.shape)


def _summed(seed: Floats, prompt: Floats, rest: Floats, units: tuple[Floats, int, int]) -> tuple[Floats, Floats]:
    """MS_seed + MS_prompt - MS_residual and its Satterthwaite degrees; never below what the seeds alone show."""
    beyond = np.where(prompt - rest > _TIE * (prompt + rest), prompt - rest, 0.0)
    total = seed + beyond
    spread = seed**2 / units[0] + prompt**2 / units[1] + rest**2 / units[2]
    degrees = np.where(beyond > 0, np.divide(total**2, spread, out=np.ones_like(total), where=spread > 0), units[0])
    return total, degrees


def variance_of_mean(squares: MeanSquares) -> tuple[float, float]:
    """Variance of the mean over all cells and its degrees of freedom.

    (MS_seed + MS_prompt - MS_residual) / (S P), Satterthwaite degrees (Satterthwaite 1946; Clark 1973 has the same
    design with subjects and words). Never below what the seeds alone show; mean squares that tie up to rounding are equal.
    """
    s, p = squares.seeds - 1, squares.prompts - 1
    seed, prompt, rest = (np.asarray(v, dtype=float) for v in (squares.seed, squares.prompt, squares.residual))
    total, degrees = _summed(seed, prompt, rest, (np.asarray(float(s)), p, s * p))
    return float(total) / (squares.seeds * squares.prompts), float(degrees)


def crossed_means(differences: Floats, prior: Prior | None = None) -> Means:
    """Means of many arrays of paired differences at once, shape (..., S, P) with S >= 2, seeds and prompts both samples.

    `prior` pulls the seed mean square to that of other arms, weighted by degrees of freedom (Smyth 2004). Where only few
    cells differ from the rest, the Satterthwaite degrees are fewer than half the seeds', or the seeds agree better than
    the residual lets them (`LUCK`), their mean square counts at least as much as the residual one, which it exceeds in
    expectation. NaN where nothing varies.
    """
    seeds, prompts = differences.shape[-2:]
    value, largest = differences.mean(axis=(-2, -1)), np.abs(differences).max(axis=(-2, -1))
    units = np.asarray(float(seeds - 1))
    lent = np.asarray(0.0) if prior is None else prior.degrees

    def pooled(own: Floats) -> Floats:
        return own if prior is None else (lent * prior.seed + units * own) / (lent + units)

    if prompts == 1:
        seed = pooled(differences[..., 0].var(axis=-1, ddof=1))
        variance, degrees = seed / seeds, np.broadcast_to(units + lent, seed.shape)
    else:
        own, prompt, rest = _squares(differences)
        seed = pooled(own)
        total, degrees = _summed(seed, prompt, rest, (units + lent, prompts - 1, (seeds - 1) * (prompts - 1)))
        lucky = np.asarray(own <= rest * (1 + _TIE))
        few = np.zeros(lucky.shape, dtype=bool)
        cells = differences.reshape(*lucky.shape, -1)[lucky]
        apart = np.abs(cells - np.median(cells, axis=-1, keepdims=True))
        few[lucky] = (apart > _TIE * largest[lucky][:, None]).sum(axis=-1) < FEWEST_MOVING
        least = special.chdtri(seeds - 1, 1 - LUCK) / (seeds - 1)
        doubtful = few | (degrees < units / 2 * (1 - _TIE)) | (total < least * rest)
        floor, fewer = _summed(np.maximum(seed, rest), prompt, rest, (units, prompts - 1, (seeds - 1) * (prompts - 1)))
        variance = np.where(doubtful, floor, total) / (seeds * prompts)
        degrees = np.where(doubtful, np.minimum(fewer, units), degrees)
    known = variance > (_NOTHING * np.maximum(largest, 1e-150)) ** 2
    return Means(value, np.sqrt(np.where(known, variance, np.nan)), np.where(known, degrees, np.nan))


def crossed_mean(differences: ArrayLike, prior: Prior | None = None) -> CrossedMean:
    """Mean of paired differences, shape (S, P), with both seeds and prompts as samples (`crossed_means` of one array).

    With one prompt column (a figure per seed, such as the reward at a matched KL) it is the t interval over seeds.
    ValueError for another shape, or values that are not finite.
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 2 or not np.isfinite(d).all():
        raise ValueError(f"crossed_mean: shape {d.shape}; give finite values, one row per seed, one column per prompt")
    seeds, prompts = d.shape
    if d.size == 0:
        return without_spread(nan, seeds, prompts, "no seed and prompt that both sides finished")
    centre = float(d.mean())
    if seeds < 2:
        return without_spread(centre, seeds, prompts, "one seed: the spread over seeds cannot be estimated")
    found = crossed_means(d, prior)
    if not np.isfinite(found.stderr):
        return without_spread(centre, seeds, prompts, "all differences are equal; no interval")
    few = f"only {seeds} seeds" if seeds < 5 else None
    squares = None if prompts == 1 else mean_squares(d)
    own = CrossedMean(centre, float(found.stderr), float(found.degrees), seeds, prompts, few, squares)
    if prior is None or not prior.degrees > 0:
        return own
    return replace(own, borrowed=float(prior.degrees), alone=crossed_mean(d))


FLIPS = 1023  # random sign patterns where all of them would be more


def studentised_sign_flip(differences: ArrayLike, seed: int = 0) -> Test:
    """Two-sided test of the mean of differences, shape (S, P): the signs of whole seeds are flipped, and the statistic is
    the crossed mean over its standard error, computed again for every pattern; exact up to ten seeds.

    Needs no normal seeds, but symmetric ones. Of a plain mean the standard error would not depend on the signs.
    """
    d = np.asarray(differences, dtype=float)
    name = "studentised sign-flip over seeds"
    if len(d) < 2 or d.size == 0:
        return outcome(None, name, d.size, len(d), note="cannot be computed with fewer than two seeds")
    seeds, exact = len(d), len(d) <= 10
    own = crossed_means(d)
    if not np.isfinite(own.stderr):
        return outcome(None if d.any() else 1.0, name, d.shape[1], seeds, note="the differences do not vary")
    drawn = np.random.default_rng(seed).integers(0, 2, (FLIPS, seeds)) * 2.0 - 1
    signs = every_sign(seeds) if exact else np.concatenate([np.ones((1, seeds)), drawn])
    flipped = [crossed_means(part[:, :, None] * d) for part in np.array_split(signs, max(1, len(signs) // 64))]
    t = np.concatenate([np.abs(np.nan_to_num(m.value / m.stderr, nan=0.0)) for m in flipped])
    p = float((t >= abs(float(own.value / own.stderr)) * (1 - 1e-9)).mean())
    return outcome(p, name, d.shape[1], seeds, 1 / len(signs) * (2 if exact else 1))


# Hierarchical bootstrap: seeds resampled, then one sample of items shared by all methods.


@lru_cache(maxsize=4)
def _resampled(count: int, replicates: int, seed: int) -> Floats:
    """Share that each of so many units has in each replicate, shape (replicates, count); many comparisons share them."""
    drawn = np.random.default_rng([seed, count]).multinomial(count, np.full(count, 1 / count), replicates)
    return np.asarray(drawn / count)


def hierarchical_means(values: ArrayLike, replicates: int = 10_000, seed: int = 0) -> Floats:
    """Bootstrap means, shape (methods, replicates), of values with shape (methods, seeds, items).

    Items are crossed with seeds and methods, so each replicate draws one multiset of seeds and one of items and uses
    them for every method: differences between rows are paired.
    """
    x = np.asarray(values, dtype=float)
    by_seed, by_item = (_resampled(count, replicates, seed + axis) for axis, count in enumerate(x.shape[1:]))
    return np.asarray(np.einsum("msr,rs->mr", x @ by_item.T, by_seed))


def hierarchical_difference(
    a: ArrayLike, b: ArrayLike, replicates: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Percentile interval for mean(a) - mean(b), both of shape (seeds, items), seeds and items matched.

    Labelled indicative below five seeds: with S=3 there are only 10 distinct seed multisets.
    """
    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    name = f"hierarchical bootstrap over seeds and items ({replicates} draws)"
    seeds, items = d.shape
    if seeds < 2 or items < 2:
        return undefined(name, items, "fewer than two seeds or items to resample", seeds)
    means = hierarchical_means(d[None], replicates, seed)[0]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    multisets = comb(2 * seeds - 1, seeds)
    note = f"indicative: {seeds} seeds give {multisets} distinct seed multisets" if seeds < 5 else None
    return estimated(float(d.mean()), low, high, name, items, seeds, float(means.std(ddof=1)), confidence, note)


# Does a paired difference change with a property of the prompt? Slope over prompts, with seeds and prompts as samples.


FEWEST_PROMPTS = 10


def slope_influence(differences: ArrayLike, covariate: ArrayLike) -> Floats:
    """Cells whose mean is the slope of the differences, shape (S, P), on the covariate, shape (P,), in its own unit.

    slope_s + x_p e_sp / (1 - h_p) / mean(x^2), x centred, e the residuals of each seed's own line and h the leverage of the
    prompt: row means are the slopes of the seeds, and the two-way spread is the cluster-robust variance with seeds and
    prompts as clusters (Cameron, Gelbach and Miller 2011), whatever the heteroscedasticity; without the leverage a few
    extreme prompts would make it too small (HC3, MacKinnon and White 1985).
    """
    d, x = np.asarray(differences, dtype=float), np.asarray(covariate, dtype=float)
    x = x - x.mean()
    square = float(x @ x)
    centred = d - d.mean(axis=1, keepdims=True)
    slopes = (centred @ x / square)[:, None]
    leverage = 1 / x.size + x**2 / square
    parts = x * (centred - slopes * x) / np.maximum(1 - leverage, 1e-12) * (x.size / square)
    return np.asarray(slopes + parts - parts.mean(axis=1, keepdims=True))


def interaction(differences: ArrayLike, covariate: ArrayLike) -> tuple[CrossedMean, Estimate]:
    """The slope with its spread, and its interval; of one seed the interval is over its prompts only.

    Below `FEWEST_PROMPTS` prompts, or with a covariate that does not vary, nothing is estimated and the note says why.
    """
    d, x = np.asarray(differences, dtype=float), np.asarray(covariate, dtype=float)
    if d.size == 0 or x.size < FEWEST_PROMPTS or np.ptp(x) == 0:
        why = "the covariate does not vary" if x.size >= FEWEST_PROMPTS else f"fewer than {FEWEST_PROMPTS} prompts"
        nothing = without_spread(nan, len(d), x.size, why)
        return nothing, nothing.interval()
    cells = slope_influence(d, x)
    mean = crossed_mean(cells)
    # The slope rests on the prompts far from the mean: so many of equal weight (Bell and McCaffrey 2002, in spirit).
    apart = (x - x.mean()) ** 2
    mean = replace(mean, degrees=min(mean.degrees, float(apart.sum() ** 2 / (apart @ apart))))
    return mean, interval_of(mean, cells)


def interval_of(mean: CrossedMean, cells: Floats) -> Estimate:
    """The crossed interval; of one seed, the interval over its prompts, which says nothing of another seed."""
    if mean.seeds > 1 or cells.size < 2 or np.ptp(cells) == 0:
        return mean.interval()
    note = "one seed: over its prompts only, it says nothing of another seed"
    return mean_interval(cells[0]).model_copy(update={"seeds": 1, "note": note})
