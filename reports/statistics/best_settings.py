"""Best settings: cross-fitted differences and expected best scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.special import gammaln

from reports.statistics.crossed import CrossedMean, Means, MeanSquares, crossed_mean
from reports.statistics.results import Estimate, Test, undefined

# Best setting of one method against the best of another, with an interval that pays for the choice.
#
# theta = max_i mu_i - max_j nu_j. Whichever settings are truly best, theta >= mu_i - max_j nu_j for every i, so
# L = max_i min_j lower(i, j) is a lower bound once the lower bounds of the K settings i share alpha / 2 (Bonferroni); over j
# nothing is to be paid (intersection-union, Berger 1982). The upper bound and both p-values follow in the same way. No
# setting is chosen by its scores, so no luck of the choice enters.


NAME = "best against best: crossed seeds x prompts, Bonferroni over own settings, all of the other's"

Floats = NDArray[np.float64]


def paid(p: Floats, row: NDArray[np.intp] | None = None) -> Floats:
    """One p for "some own setting beats every other one", from one-sided p of every pair, shape (..., own, other).

    The own settings are paid for (Bonferroni), the other side's are not: all have to be beaten. `row`, shape (...), holds
    the own setting an advantage must be shown for, whichever data picked it.
    """
    worst = p.max(axis=-1)
    least = worst.min(axis=-1) if row is None else np.take_along_axis(worst, row[..., None], axis=-1)[..., 0]
    return np.minimum(1.0, p.shape[-2] * least)


@dataclass(frozen=True, slots=True)
class Paid:
    """Best of one method's settings against another's, of many matrices at once: means of shape (..., own, other)."""

    means: Means
    seeds: int
    row: NDArray[np.intp] | None = None

    def p_above(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at most `null`; 1 where a pair has no spread."""
        return paid(np.nan_to_num(self.means.p_above(null), nan=1.0), self.row)

    def p_below(self, null: float = 0.0) -> Floats:
        """One-sided p of H0: the true difference is at least `null`; 1 where a pair has no spread."""
        return paid(np.swapaxes(np.nan_to_num(self.means.p_below(null), nan=1.0), -1, -2))


@dataclass(frozen=True, slots=True)
class BestDifference:
    """The difference with its interval (`estimate` as given), its two-sided test, and the effect found with chance .80."""

    difference: Estimate
    test: Test
    detectable: float | None


@dataclass(frozen=True, slots=True)
class BestMean:
    """Best of the first side minus best of the second, from the paired mean of every pair of settings (see the module).

    `pairs[i][j]` is the mean of setting i minus setting j. A pair without a spread supports nothing: it counts as p = 1.
    `row` holds the setting of the first side that an advantage must be shown for, whichever data picked it; None takes the
    one that shows it best. `estimate` is the point to report.
    """

    pairs: tuple[tuple[CrossedMean, ...], ...]
    estimate: float | None
    row: int | None = None

    def _table(self, key: str) -> Floats:
        return np.array(
            [[np.nan if (v := getattr(m, key)) is None else v for m in row] for row in self.pairs], dtype=float
        )

    def _p(self, null: float, sign: float) -> Floats:
        """One-sided p of every pair, shape (own, other): H0 is that sign * (difference - null) is at most 0."""
        value, error, degrees = (self._table(k) for k in ("estimate", "stderr", "degrees"))
        found: Floats = special.stdtr(degrees, sign * (null - value) / error)
        return np.where(np.isfinite(found), found, 1.0)

    def _undefined(self) -> bool:
        return not np.isfinite(self._table("stderr")).any()

    def p_above(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the true difference is at most `null`; None where no pair has a spread."""
        if self._undefined():
            return None
        return float(paid(self._p(null, 1.0), None if self.row is None else np.asarray(self.row)))

    def p_below(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the true difference is at least `null`; None where no pair has a spread."""
        if self._undefined():
            return None
        return float(paid(self._p(null, -1.0).T))

    def picked(self) -> tuple[int, int]:
        """The setting that shows an advantage best (or `row`), and the one of the other side that comes closest to it."""
        value = np.nan_to_num(self._table("estimate"), nan=-np.inf)
        row = self.row
        if row is None:
            worst = self._p(0.0, 1.0).max(axis=1)
            row = max(range(len(worst)), key=lambda i: (-worst[i], value[i].min()))
        return row, int(np.nan_to_num(self._table("estimate")[row], nan=np.inf).argmin())

    @property
    def pair(self) -> CrossedMean:
        """The paired mean of the picked settings."""
        row, column = self.picked()
        return self.pairs[row][column]

    @property
    def stderr(self) -> float | None:
        """Of the picked pair, before anything is paid for the choice."""
        return self.pair.stderr

    @property
    def degrees(self) -> float | None:
        return self.pair.degrees

    @property
    def squares(self) -> MeanSquares | None:
        return self.pair.squares

    @property
    def seeds(self) -> int:
        """The fewest that any pair shares."""
        return min(m.seeds for row in self.pairs for m in row)

    @property
    def prompts(self) -> int:
        return min(m.prompts for row in self.pairs for m in row)

    @property
    def note(self) -> str | None:
        bare = next((m.note for row in self.pairs for m in row if m.stderr is None), None)
        return bare or (f"only {self.seeds} seeds" if self.seeds < 5 else None)

    def interval(self, confidence: float = 0.95) -> Estimate:
        """The difference with its interval; without one, and with a note, where a pair that it needs has no spread."""
        if self.estimate is None:
            return undefined(NAME, self.prompts, self.note or "no interval", self.seeds)
        alpha = 1 - confidence
        value, error, degrees = (self._table(k) for k in ("estimate", "stderr", "degrees"))
        own, other = value.shape
        least = np.nan_to_num(value - special.stdtrit(degrees, 1 - alpha / 2 / own) * error, nan=-np.inf).min(axis=1)
        most = np.nan_to_num(value + special.stdtrit(degrees, 1 - alpha / 2 / other) * error, nan=np.inf).max(axis=0)
        low, high = float(least.max() if self.row is None else least[self.row]), float(most.min())
        if not (np.isfinite(low) and np.isfinite(high)):
            return Estimate(self.estimate, None, None, NAME, self.prompts, self.seeds, note=self.note or "no interval")
        few = f"only {self.seeds} seeds" if self.seeds < 5 else None
        return Estimate(self.estimate, low, high, NAME, self.prompts, self.seeds, None, confidence, few)


def best_difference(
    first: ArrayLike, second: ArrayLike, estimate: float | None = None, alpha: float = 0.05
) -> BestDifference:
    """Best of `first` minus best of `second`, scores of shape (settings, seeds, prompts), larger being better.

    `estimate` is the point to report (cross-fitted, say); by default the difference of the largest means, which is too
    large by the luck of the better-searched side. Seeds and prompts are shared by both (else ValueError).
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if x.ndim != 3 or y.ndim != 3 or x.shape[1:] != y.shape[1:] or not x.shape[0] or not y.shape[0]:
        raise ValueError(f"best_difference: shapes {x.shape} and {y.shape}; give (settings, seeds, prompts) of both")
    seeds, prompts = x.shape[1:]
    if not x.size:
        why = "no seed and prompt that both sides finished"
        return BestDifference(undefined(NAME, prompts, why, seeds), Test(None, NAME, prompts, seeds, note=why), None)
    centre = float(x.mean(axis=(1, 2)).max() - y.mean(axis=(1, 2)).max()) if estimate is None else estimate
    found = BestMean(tuple(tuple(crossed_mean(a - b) for b in y) for a in x), centre)
    bare = next((m for row in found.pairs for m in row if m.stderr is None or m.degrees is None), None)
    if bare is not None:
        same = bool(all(m.estimate == 0 and m.seeds > 1 for row in found.pairs for m in row))
        point = Estimate(centre, None, None, NAME, prompts, seeds, note=bare.note)
        return BestDifference(point, Test(1.0 if same else None, NAME, prompts, seeds, note=bare.note), None)
    above, below = found.p_above(), found.p_below()
    assert above is not None and below is not None  # every pair has a spread
    i, j = int(x.mean(axis=(1, 2)).argmax()), int(y.mean(axis=(1, 2)).argmax())
    error, degrees = found.pairs[i][j].stderr or 0.0, found.pairs[i][j].degrees or 0.0
    reach = special.stdtrit(degrees, 1 - alpha / 2 / len(x)) + special.stdtrit(degrees, 0.8)
    detectable = float(reach * error)
    few = f"only {seeds} seeds" if seeds < 5 else None
    return BestDifference(
        found.interval(1 - alpha), Test(min(1.0, 2 * min(above, below)), NAME, prompts, seeds, note=few), detectable
    )


# The best of several settings, scored where it was not chosen: on other prompts and, with several seeds, other seeds.
#
# Choosing the best setting on the very scores it is then compared with adds luck to it, the more the more settings there are.


FOLDS = 5


@dataclass(frozen=True, slots=True)
class Tuned:
    """Scores of the chosen settings, shape (seeds, prompts), and how often each setting was chosen, shape (settings,)."""

    scores: NDArray[np.float64]
    share: NDArray[np.float64]
    how: str


def tuned(scores: ArrayLike, folds: int = FOLDS) -> Tuned:
    """Cross-fitted scores of the best setting, from scores of shape (settings, seeds, prompts), larger being better.

    The setting whose scores stand in the cell (seed, prompt) is the best on the prompts of the other folds under the other
    seeds; with one seed, on the prompts of the other folds. The cell was not used in the choice, so the mean is unbiased
    for a setting chosen on so much data. Prompts are dealt to folds in turn, in the order given.

    Raises:
        ValueError: the shape is not of this kind, values are not finite, or there is one prompt only.
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 3 or min(x.shape) == 0 or not np.isfinite(x).all():
        raise ValueError(f"tuned: shape {x.shape}; give finite scores of (settings, seeds, prompts)")
    settings, seeds, prompts = x.shape
    if settings == 1:
        return Tuned(x[0], np.ones(1), "one setting: nothing was chosen")
    if prompts < 2:
        raise ValueError("tuned: one prompt cannot be split into those to choose on and those to compare on")
    parts = min(folds, prompts)
    fold = np.arange(prompts) % parts
    in_fold = np.stack([x[:, :, fold == j].sum(axis=2) for j in range(parts)], axis=2)
    outside = in_fold.sum(axis=2, keepdims=True) - in_fold
    if seeds > 1:
        outside = outside.sum(axis=1, keepdims=True) - outside
    chosen = outside.argmax(axis=0)  # (seeds, folds)
    cells = chosen[:, fold]
    picked = np.take_along_axis(x, cells[None], axis=0)[0]
    share = np.bincount(cells.ravel(), minlength=settings) / cells.size
    where = "other seeds and other prompts" if seeds > 1 else "other prompts"
    return Tuned(picked, share, f"each setting chosen on {where} than those compared ({parts} folds)")


# Expected best of n settings drawn from those tried: what a tuning budget of n buys (Dodge et al. 2019, 1909.03004).


def expected_best(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the largest of n values drawn without replacement, for n = 1..N, from values of shape (..., N).

    sum_i v_(i) C(i-1, n-1) / C(N, n) over the sorted values: unbiased for n settings drawn at random, where Dodge's own
    plug-in form draws with replacement and is biased downwards. Returns shape (..., N); finite values only (ValueError).
    """
    v = np.sort(np.asarray(values, dtype=float), axis=-1)
    if v.ndim < 1 or v.shape[-1] == 0 or not np.isfinite(v).all():
        raise ValueError(f"expected_best: shape {v.shape}; give at least one finite value")
    total = v.shape[-1]
    place = np.arange(1, total + 1)[:, None]
    drawn = np.arange(1, total + 1)[None, :]
    possible = place >= drawn
    below = np.where(possible, place - drawn, 0)
    log_weight = gammaln(place) - gammaln(drawn) - gammaln(below + 1)
    log_all = gammaln(total + 1) - gammaln(drawn + 1) - gammaln(total - drawn + 1)
    weights = np.where(possible, np.exp(log_weight - log_all), 0.0)
    result: NDArray[np.float64] = v @ weights
    return result
