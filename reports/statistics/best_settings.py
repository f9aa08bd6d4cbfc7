"""Best settings: what their differences show, cross-fitted scores, and expected best scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from reports.schema.base import Estimate
from reports.statistics.crossed import CrossedMean, Means
from reports.statistics.intervals import Floats, estimated

# Best setting of one method against the best of another, with an interval that pays for the choice.
#
# theta = max_i mu_i - max_j nu_j. Whichever settings are truly best, theta >= mu_i - max_j nu_j for every i, so
# L = max_i min_j lower(i, j) is a lower bound once the lower bounds of the K settings i share alpha / 2 (Bonferroni); over j
# nothing is to be paid (intersection-union, Berger 1982). The upper bound and both p-values follow in the same way. No
# setting is chosen by its scores, so no luck of the choice enters.


NAME = "best against best: crossed seeds x prompts, Bonferroni over own settings, all of the other's"


def paid(p: Floats, row: NDArray[np.intp] | None = None) -> Floats:
    """One p for "some own setting beats every other one", from one-sided p of every pair, shape (..., own, other).

    The own settings are paid for (Bonferroni), the other side's are not: all have to be beaten. A pair without a spread
    supports nothing: its NaN counts as 1. `row`, shape (...), holds the own setting an advantage must be shown for,
    whichever data picked it.
    """
    worst = np.nan_to_num(p, nan=1.0).max(axis=-1)
    least = worst.min(axis=-1) if row is None else np.take_along_axis(worst, row[..., None], axis=-1)[..., 0]
    return np.minimum(1.0, p.shape[-2] * least)


@dataclass(frozen=True, slots=True)
class Paid:
    """Best of one method's settings against another's, of many matrices at once: means of shape (..., own, other)."""

    means: Means
    seeds: int
    row: NDArray[np.intp] | None = None

    def p_above(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at most `null`."""
        return paid(self.means.p_above(null), self.row)

    def p_below(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at least `null`."""
        return paid(np.swapaxes(self.means.p_below(null), -1, -2))


@dataclass(frozen=True, slots=True, kw_only=True)
class BestMean(CrossedMean):
    """Best of the first side minus best of the second, from the paired mean of every pair of settings (`best_mean`).

    `value` is the point to report (NaN: none). Standard error, degrees of freedom and what was lent are those of the picked
    pair, before anything is paid for the choice; seeds and prompts are the fewest that any pair shares.

    `means`: of all pairs, shape (own, other). `at`: the setting that shows an advantage best (or `row`), and the one of the
    other side that comes closest to it. `row`: the setting of the first side that an advantage must be shown for, whichever
    data picked it; None takes the one that shows it best.
    """

    means: Means
    at: tuple[int, int]
    row: int | None = None

    @property
    def settings(self) -> tuple[int, int]:
        """How many either side has."""
        own, other = np.shape(self.means.value)
        return own, other

    def _known(self, p: Floats) -> Floats:
        return p if np.isfinite(self.means.stderr).any() else np.asarray(nan)

    def p_above(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at most `null`; NaN where no pair has a spread."""
        return self._known(paid(self.means.p_above(null), None if self.row is None else np.asarray(self.row)))

    def p_below(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at least `null`; NaN where no pair has a spread."""
        return self._known(paid(self.means.p_below(null).T))

    def interval(self, confidence: float = 0.95) -> Estimate:
        """The difference with its interval; without one, and with a note, where a pair that it needs has no spread."""
        tail, means = (1 - confidence) / 2, self.means
        reach = [special.stdtrit(means.degrees, 1 - tail / count) * means.stderr for count in self.settings]
        least = np.nan_to_num(means.value - reach[0], nan=-np.inf).min(axis=1)
        most = np.nan_to_num(means.value + reach[1], nan=np.inf).max(axis=0)
        low, high = (least.max() if self.row is None else least[self.row]), most.min()
        low, high = (low, high) if np.isfinite([low, high]).all() else (nan, nan)
        return estimated(self.value, low, high, NAME, self.prompts, self.seeds, None, confidence, self.note)


def best_mean(pairs: Sequence[Sequence[CrossedMean]], value: float = nan, row: int | None = None) -> BestMean:
    """`pairs[i][j]` is the mean of setting i of the first side minus setting j of the second; the rest as in BestMean."""
    every = [mean for line in pairs for mean in line]
    keys = ("value", "stderr", "degrees")
    means = Means(*(np.array([[getattr(mean, key) for mean in line] for line in pairs]) for key in keys))
    own = row
    if own is None:
        worst = np.nan_to_num(means.p_above(), nan=1.0).max(axis=1)
        lowest = np.nan_to_num(means.value, nan=-np.inf).min(axis=1)
        own = max(range(len(worst)), key=lambda i: (-worst[i], lowest[i]))
    at = own, int(np.nan_to_num(means.value, nan=np.inf)[own].argmin())
    picked, seeds = pairs[at[0]][at[1]], min(mean.seeds for mean in every)
    bare = next((mean.note for mean in every if np.isnan(mean.stderr)), None)
    return BestMean(
        value, picked.stderr, picked.degrees, seeds, min(mean.prompts for mean in every),
        bare or (f"only {seeds} seeds" if seeds < 5 else None), picked.squares, picked.borrowed, picked.alone,
        means=means, at=at, row=row,
    )  # fmt: skip


# The best of several settings, scored where it was not chosen: on other prompts and, with several seeds, other seeds.
#
# Choosing the best setting on the very scores it is then compared with adds luck to it, the more the more settings there are.


FOLDS = 5


def tuned(scores: ArrayLike, folds: int = FOLDS) -> Floats:
    """Cross-fitted scores of the best setting, shape (seeds, prompts), from scores of shape (settings, seeds, prompts).

    The setting whose scores stand in the cell (seed, prompt) is the best (the largest mean) on the prompts of the other folds
    under the other seeds; with one seed, on the prompts of the other folds. The cell was not used in the choice, so the mean is
    unbiased for a setting chosen on so much data. Prompts are dealt to folds in turn, in the order given; several settings
    need two of them.
    """
    x = np.asarray(scores, dtype=float)
    settings, seeds, prompts = x.shape
    if settings == 1:
        return x[0]
    parts = min(folds, prompts)
    fold = np.arange(prompts) % parts
    in_fold = np.stack([x[:, :, fold == j].sum(axis=2) for j in range(parts)], axis=2)
    outside = in_fold.sum(axis=2, keepdims=True) - in_fold
    if seeds > 1:
        outside = outside.sum(axis=1, keepdims=True) - outside
    chosen = outside.argmax(axis=0)  # (seeds, folds)
    return np.asarray(np.take_along_axis(x, chosen[:, fold][None], axis=0)[0])


# Expected best of n settings drawn from those tried: what a tuning budget of n buys (Dodge et al. 2019, 1909.03004).


def expected_best(values: ArrayLike) -> Floats:
    """Mean of the largest of n values drawn without replacement, for n = 1..N, from values of shape (..., N).

    sum_i v_(i) C(i-1, n-1) / C(N, n) over the sorted values: unbiased for n settings drawn at random, where Dodge's own
    plug-in form draws with replacement and is biased downwards. Returns shape (..., N).
    """
    v = np.sort(np.asarray(values, dtype=float), axis=-1)
    total = v.shape[-1]
    place, drawn = np.arange(1, total + 1)[:, None], np.arange(1, total + 1)[None, :]
    below = np.maximum(place - drawn, 0)
    log_weight = special.gammaln(place) - special.gammaln(drawn) - special.gammaln(below + 1)
    log_all = special.gammaln(total + 1) - special.gammaln(drawn + 1) - special.gammaln(total - drawn + 1)
    return np.asarray(v @ np.where(place >= drawn, np.exp(log_weight - log_all), 0.0))
