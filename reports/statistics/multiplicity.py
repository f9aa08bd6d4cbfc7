"""Corrections for many tests and several looks."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from reports.schema.base import Adjusted, AdjustedP, Test

Floats = NDArray[np.float64]

ALPHA = 0.05
#: Below this many paired seeds no method-level claim is made, whatever the interval says.
LEAST_SEEDS = 5

# Adjusted p-values: Holm for declared comparisons, Benjamini-Hochberg for exploratory ones. A test that could not be made
# stays None and counts as p = 1: what happens in the data does not make the family smaller.


def closed_ladders(p: Sequence[ArrayLike], ladders: Sequence[Hashable]) -> list[Floats]:
    """Adjusted p-values of claims in ladders of nested ones, family-wise error over all; `ladders` names that of each claim.

    In a ladder a claim that is false makes every stronger one false, and the stronger has the larger p. The closed
    procedure over Bonferroni tests of the ladders then rejects a rung when, for every set of other ladders, its p or one
    of theirs is small enough, each ladder being done only with its strongest rung. Ladders of one rung give Holm's p.
    A p may be an array of p of many families.
    """
    rungs = [rung.astype(float) for rung in np.broadcast_arrays(*p)]
    tops = {
        ladder: np.maximum.reduce([rung for rung, own in zip(rungs, ladders, strict=True) if own == ladder])
        for ladder in dict.fromkeys(ladders)
    }
    adjusted = []
    for rung, own in zip(rungs, ladders, strict=True):
        others = [top for ladder, top in tops.items() if ladder != own]
        hardest: Sequence[Floats] = list(np.sort(np.stack(others), axis=0)[::-1]) if others else []
        shared = [(count + 2) * np.minimum(rung, other) for count, other in enumerate(hardest)]
        adjusted.append(np.minimum(1.0, np.maximum.reduce([rung, *shared])))
    return adjusted


def holm(p: Sequence[ArrayLike]) -> list[Floats]:
    """Holm's step-down adjusted p-values (family-wise error): one p, or array of p of many families, per test."""
    return closed_ladders(p, range(len(p)))


def benjamini_hochberg(p: Sequence[ArrayLike]) -> list[Floats]:
    """Benjamini-Hochberg adjusted p-values (false discovery rate): one p, or array of p of many families, per test."""
    return (
        list(stats.false_discovery_control(np.stack(np.broadcast_arrays(*p)).astype(float), axis=0)) if len(p) else []
    )


# Declared looks: the data are judged at several numbers of seeds, and the level is spent over them (Lan and DeMets 1983).


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
_ALPHAS = np.concatenate([np.logspace(-9, -3, 13), np.logspace(-2.8, np.log10(0.5), 24)])


@lru_cache(maxsize=512)
def look_levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """One-sided level of the test at each look, which together reject a true null with chance `alpha`, spent as Pocock does.

    `looks`: numbers of seeds, rising. Boundaries of a normal statistic with independent increments, by numerical
    integration from look to look (Armitage, McPherson and Rowe 1969); as levels they serve t statistics (Jennison and
    Turnbull 2000, section 3.8).

    Raises:
        ValueError: the looks do not rise.
    """
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise ValueError(f"looks are {list(looks)}; give rising numbers of seeds")
    spent, time, levels = 0.0, 0.0, []
    # of the statistic times the root of its information share, not yet stopped
    nodes, density = np.zeros(1), np.ones(1)
    for seeds in looks:
        share = seeds / looks[-1]
        room, step = alpha * math.log(1 + (math.e - 1) * share) - spent, math.sqrt(share - time)

        def excess(bound: float, at: Floats, mass: Floats, sd: float, room: float) -> float:
            return float(mass @ special.ndtr((at - bound) / sd)) - room

        bound = optimize.brentq(excess, -10.0, 10.0, args=(nodes, density, step, room), xtol=1e-12)
        levels.append(float(special.ndtr(-bound / math.sqrt(share))))
        low = -9.0
        fresh = low + (bound - low) * (_NODES + 1) / 2
        gaps = (fresh[:, None] - nodes[None, :]) / step
        density = (np.exp(-(gaps**2) / 2) / (step * math.sqrt(2 * math.pi))) @ density * _WEIGHTS * (bound - low) / 2
        nodes, spent, time = fresh, spent + room, share
    return tuple(levels)


@dataclass(frozen=True, slots=True)
class Look:
    """One of the planned looks: `seeds` is the number judged now and one of `planned`, all of them in rising order."""

    seeds: int
    planned: tuple[int, ...]

    def overall(self, p: ArrayLike) -> Floats:
        """The one-sided level of the whole plan at which a one-sided p of this look just rejects.

        Compared with any level, or passed on to Holm, in the place of p (Jennison and Turnbull's repeated p-value).
        """
        place = self.planned.index(self.seeds)
        here = np.array([look_levels(self.planned, float(a))[place] for a in _ALPHAS])
        values = np.maximum(np.asarray(p, dtype=float), 1e-300)
        logs = np.interp(np.log(values), np.log(here), np.log(_ALPHAS))
        below = values < here[0]  # a p this small is charged in proportion
        found = np.where(below, values * _ALPHAS[0] / here[0], np.exp(logs))
        return np.where(values > here[-1], 1.0, np.maximum(found, np.asarray(p, dtype=float)))


# p-values corrected together.


R = TypeVar("R", bound=Adjusted)
_CORRECTIONS = {"Holm": holm, "Benjamini-Hochberg": benjamini_hochberg}
#: Stands in a row until the tests of all rows are known.
UNCORRECTED = AdjustedP(value=None, method="uncorrected", family_size=0, reason="not corrected yet")


def corrected(tests: Sequence[Test], method: str = "Benjamini-Hochberg") -> list[AdjustedP]:
    """The p-values of one family after correction ("Holm", "Benjamini-Hochberg"); a test without one counts as p = 1, keeps
    its place in the family and says why."""
    values = _CORRECTIONS[method]([1.0 if test.p_value is None else test.p_value for test in tests])
    return [
        AdjustedP(value=None, method=method, family_size=len(values), reason=test.reason)
        if test.p_value is None
        else AdjustedP(value=float(p), method=method, family_size=len(values), reason=None)
        for test, p in zip(tests, values, strict=True)
    ]


def with_corrected(rows: Sequence[R], tests: Sequence[Test]) -> list[R]:
    """The rows, which stand for one family of tests, with their `adjusted_p`."""
    return [row.model_copy(update={"adjusted_p": p}) for row, p in zip(rows, corrected(tests), strict=True)]
