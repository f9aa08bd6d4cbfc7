"""Best setting of one method against the best of another, with an interval that pays for the choice.

theta = max_i mu_i - max_j nu_j. Whichever settings are truly best, theta >= mu_i - max_j nu_j for every i, so
L = max_i min_j lower(i, j) is a lower bound once the lower bounds of the K settings i share alpha / 2 (Bonferroni); over j
nothing is to be paid (intersection-union, Berger 1982). The upper bound and both p-values follow in the same way. No
setting is chosen by its scores, so no luck of the choice enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .crossed import CrossedMean, MeanSquares, crossed_mean
from .power import DETECTION
from .results import Estimate, Test, undefined

NAME = "best against best: crossed seeds x prompts, Bonferroni over own settings, all of the other's"

Floats = NDArray[np.float64]


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
        worst = self._p(null, 1.0).max(axis=1)
        return min(1.0, len(self.pairs) * float(worst.min() if self.row is None else worst[self.row]))

    def p_below(self, null: float = 0.0) -> float | None:
        """One-sided p of H0: the true difference is at least `null`; None where no pair has a spread."""
        if self._undefined():
            return None
        return min(1.0, len(self.pairs[0]) * float(self._p(null, -1.0).max(axis=0).min()))

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
    detectable = float(reach * error) if np.isfinite(reach) else DETECTION * error
    few = f"only {seeds} seeds" if seeds < 5 else None
    return BestDifference(
        found.interval(1 - alpha), Test(min(1.0, 2 * min(above, below)), NAME, prompts, seeds, note=few), detectable
    )
