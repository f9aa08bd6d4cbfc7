"""Best setting of one method against the best of another, with an interval that pays for the choice.

theta = max_i mu_i - max_j nu_j. Whichever settings are truly best, theta >= mu_i - max_j nu_j for every i, so
L = max_i min_j lower(i, j) is a lower bound once the lower bounds of the K settings i share alpha / 2 (Bonferroni); over j
nothing is to be paid (intersection-union, Berger 1982). The upper bound and both p-values follow in the same way. No
setting is chosen by its scores, so no luck of the choice enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .crossed import crossed_mean
from .power import DETECTION
from .results import Estimate, Test, undefined

NAME = "best against best: crossed seeds x prompts, Bonferroni over own settings, all of the other's"


@dataclass(frozen=True, slots=True)
class BestDifference:
    """The difference with its interval (`estimate` as given), its two-sided test, and the effect found with chance .80."""

    difference: Estimate
    test: Test
    detectable: float | None


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
    means = [[crossed_mean(a - b) for b in y] for a in x]
    centre = float(x.mean(axis=(1, 2)).max() - y.mean(axis=(1, 2)).max()) if estimate is None else estimate
    bare = next((m for row in means for m in row if m.stderr is None or m.degrees is None), None)
    if bare is not None:
        same = bool(all(m.estimate == 0 and m.seeds > 1 for row in means for m in row))
        found = Estimate(centre, None, None, NAME, prompts, seeds, note=bare.note)
        return BestDifference(found, Test(1.0 if same else None, NAME, prompts, seeds, note=bare.note), None)
    value, error, degrees = (
        np.array([[getattr(m, k) for m in row] for row in means], dtype=float)
        for k in ("estimate", "stderr", "degrees")
    )
    own, other = x.shape[0], y.shape[0]
    low = (value - special.stdtrit(degrees, 1 - alpha / 2 / own) * error).min(axis=1).max()
    high = (value + special.stdtrit(degrees, 1 - alpha / 2 / other) * error).max(axis=0).min()
    above = own * special.stdtr(degrees, -value / error).max(axis=1).min()
    below = other * special.stdtr(degrees, value / error).max(axis=0).min()
    few = f"only {seeds} seeds" if seeds < 5 else None
    interval = Estimate(centre, float(low), float(high), NAME, prompts, seeds, None, 1 - alpha, few)
    i, j = int(x.mean(axis=(1, 2)).argmax()), int(y.mean(axis=(1, 2)).argmax())
    reach = special.stdtrit(degrees[i, j], 1 - alpha / 2 / own) + special.stdtrit(degrees[i, j], 0.8)
    detectable = float(reach * error[i, j]) if np.isfinite(reach) else DETECTION * float(error[i, j])
    return BestDifference(
        interval, Test(min(1.0, 2 * float(min(above, below))), NAME, prompts, seeds, note=few), detectable
    )
