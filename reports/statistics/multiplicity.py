"""Corrections for many tests and several looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def closed_ladders(ladders: Sequence[Sequence[ArrayLike]]) -> list[list[Floats]]:
    """Adjusted p-values of ladders of nested claims, family-wise error over all rungs; arrays of one shape.

    In a ladder a claim that is false makes every stronger one false, and the stronger has the larger p. The closed
    procedure over Bonferroni tests of the ladders then rejects a rung when, for every set of other ladders, its p or one
    of theirs is small enough, each ladder being done only with its strongest rung. Ladders of one rung give Holm's p.
    """
    tops = [np.maximum.reduce(np.broadcast_arrays(*rungs)).astype(float) for rungs in ladders]
    found = []
    for own, rungs in enumerate(ladders):
        others = [top for i, top in enumerate(tops) if i != own]
        hardest = np.sort(np.stack(others), axis=0)[::-1] if others else np.empty((0, *tops[own].shape))
        adjusted = []
        for rung in rungs:
            p = np.asarray(rung, dtype=float)
            shared = [(count + 2) * np.minimum(p, other) for count, other in enumerate(hardest)]
            adjusted.append(np.minimum(1.0, np.maximum.reduce([np.broadcast_to(p, tops[own].shape), *shared])))
        found.append(adjusted)
    return found


def holm_arrays(p: Sequence[ArrayLike]) -> list[Floats]:
    """`holm` of many families at once: one array of p-values per test, the same shape each."""
    return [rungs[0] for rungs in closed_ladders([[one] for one in np.broadcast_arrays(*p)])]


def benjamini_hochberg_arrays(p: Sequence[ArrayLike]) -> list[Floats]:
    """`benjamini_hochberg` of many families at once: one array of p-values per test, the same shape each."""
    return (
        list(stats.false_discovery_control(np.stack(np.broadcast_arrays(*p)).astype(float), axis=0)) if len(p) else []
    )


def _listed(
    p_values: Sequence[float | None], correct: Callable[[Sequence[ArrayLike]], list[Floats]]
) -> list[float | None]:
    p = np.array([1.0 if v is None else v for v in p_values], dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must be between 0 and 1")
    return [None if v is None else float(a) for v, a in zip(p_values, correct(p), strict=True)]  # type: ignore[arg-type]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (family-wise error), in the order given."""
    return _listed(p_values, holm_arrays)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg adjusted p-values (false discovery rate), in the order given."""
    return _listed(p_values, benjamini_hochberg_arrays)


# Declared looks: the data are judged at several numbers of seeds, and the level is spent over them (Lan and DeMets 1983).


def _pocock(alpha: float, share: float) -> float:
    return alpha * math.log(1 + (math.e - 1) * share)


def _obrien_fleming(alpha: float, share: float) -> float:
    return float(2 * special.ndtr(special.ndtri(alpha / 2) / math.sqrt(share)))


SPENDING = {"pocock": _pocock, "obrien_fleming": _obrien_fleming}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
_ALPHAS = np.concatenate([np.logspace(-9, -3, 13), np.logspace(-2.8, np.log10(0.5), 24)])


@lru_cache(maxsize=512)
def look_levels(looks: tuple[int, ...], alpha: float, spending: str = "pocock") -> tuple[float, ...]:
    """One-sided level of the test at each look, which together reject a true null with chance `alpha`.

    `looks`: numbers of seeds, rising. Boundaries of a normal statistic with independent increments, by numerical
    integration from look to look (Armitage, McPherson and Rowe 1969); as levels they serve t statistics (Jennison and
    Turnbull 2000, section 3.8).

    Raises:
        ValueError: the looks do not rise, or no such spending function.
    """
    if spending not in SPENDING:
        raise ValueError(f"spending is {spending!r}; known: {', '.join(SPENDING)}")
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise ValueError(f"looks are {list(looks)}; give rising numbers of seeds")
    spent, time, levels = 0.0, 0.0, []
    # of the statistic times the root of its information share, not yet stopped
    nodes, density = np.zeros(1), np.ones(1)
    for seeds in looks:
        share = seeds / looks[-1]
        room, step = SPENDING[spending](alpha, share) - spent, math.sqrt(share - time)

        def excess(
            bound: float, at: Floats = nodes, mass: Floats = density, sd: float = step, room: float = room
        ) -> float:
            return float(mass @ special.ndtr((at - bound) / sd)) - room

        bound = optimize.brentq(excess, -10.0, 10.0, xtol=1e-12)
        levels.append(float(special.ndtr(-bound / math.sqrt(share))))
        low = -9.0
        fresh = low + (bound - low) * (_NODES + 1) / 2
        gaps = (fresh[:, None] - nodes[None, :]) / step
        density = (np.exp(-(gaps**2) / 2) / (step * math.sqrt(2 * math.pi))) @ density * _WEIGHTS * (bound - low) / 2
        nodes, spent, time = fresh, spent + room, share
    return tuple(levels)


@dataclass(frozen=True, slots=True)
class Look:
    """One of the planned looks: `seeds` is the number judged now, `planned` all of them, in rising order."""

    seeds: int
    planned: tuple[int, ...]
    spending: str = "pocock"

    def __post_init__(self) -> None:
        if self.seeds not in self.planned:
            raise ValueError(f"{self.seeds} seeds is none of the planned looks {list(self.planned)}")

    def overall(self, p: ArrayLike) -> Floats:
        """The one-sided level of the whole plan at which a one-sided p of this look just rejects.

        Compared with any level, or passed on to Holm, in the place of p (Jennison and Turnbull's repeated p-value).
        """
        place = self.planned.index(self.seeds)
        here = np.array([look_levels(self.planned, float(a), self.spending)[place] for a in _ALPHAS])
        values = np.maximum(np.asarray(p, dtype=float), 1e-300)
        logs = np.interp(np.log(values), np.log(here), np.log(_ALPHAS))
        below = values < here[0]  # a p this small is charged in proportion
        found = np.where(below, values * _ALPHAS[0] / here[0], np.exp(logs))
        return np.where(values > here[-1], 1.0, np.maximum(found, np.asarray(p, dtype=float)))


# p-values corrected together.


R = TypeVar("R", bound=Adjusted)
#: Stands in a row until the tests of all rows are known.
UNCORRECTED = AdjustedP(value=None, method="uncorrected", family_size=0, reason="not corrected yet")


def corrected(
    tests: Sequence[Test],
    correct: Callable[[list[float | None]], list[float | None]] = benjamini_hochberg,
    method: str = "Benjamini-Hochberg",
) -> list[AdjustedP]:
    """The p-values of one family after correction; a test without one keeps its place in the family and says why."""
    values = correct([test.p_value for test in tests])
    return [
        AdjustedP(value=p, method=method, family_size=len(values), reason=test.reason if p is None else None)
        for test, p in zip(tests, values, strict=True)
    ]


def with_corrected(rows: Sequence[R], tests: Sequence[Test]) -> list[R]:
    """The rows, which stand for one family of tests, with their `adjusted_p`."""
    return [row.model_copy(update={"adjusted_p": p}) for row, p in zip(rows, corrected(tests), strict=True)]
