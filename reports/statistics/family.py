"""One verdict for every claim of a family: closed ladders, several looks, and the words they end in.

A claim needs all of its comparisons to favour the method (intersection-union). Claims on one method and baseline that
assert more and more (gain, variation, perplexity) form a ladder: the comparisons of each contain those of the one below, so
whenever a rung is false, all above it are, and testing every rung at the full level is a closed procedure (Marcus, Peritz
and Gabriel 1976). Ladders share the level by Holm's method; a claim that could not be tested keeps its place in it.

All functions take numbers or arrays of one shape (many simulated matrices): the report, `power` and `make simulate` call
the same ones.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reports.schema.base import ClaimVerdict
from reports.statistics.best_settings import Paid
from reports.statistics.crossed import CrossedMean, Means, crossed_mean, crossed_means
from reports.statistics.moderated import prior
from reports.statistics.multiplicity import ALPHA, LEAST_SEEDS, Look, benjamini_hochberg, closed_ladders, holm

Floats = NDArray[np.float64]

#: The words of a verdict, strongest first, and what each is called in outputs of schema version 1. That version also said
#: "refuted" where an improvement of `min_effect` was excluded and nothing else shown; this is now "undecided".
WORDS: dict[ClaimVerdict, str] = {
    "better by more than m": "supported",
    "better": "supported",
    "equivalent": "equivalent",
    "worse": "refuted",
    "undecided": "inconclusive",
}
#: What each says, at the corrected level; m is the claim's `min_effect`.
MEANINGS = {
    "better by more than m": "every comparison that the claim needs lies above m",
    "better": "every comparison that the claim needs lies above zero",
    "equivalent": "one of them lies within m of zero either way, too small a difference to be worth having",
    "worse": "one of them lies below zero",
    "undecided": "none of these is shown, or there are fewer than five paired seeds",
}
#: The words that say that the claim holds.
HELPS = ("better by more than m", "better")


class Comparison(Protocol):
    """One paired difference, larger being better for the method: CrossedMean, BestMean, `Paid` or `Weaker`."""

    @property
    def seeds(self) -> int: ...

    def p_above(self, null: float = 0.0) -> float | Floats: ...

    def p_below(self, null: float = 0.0) -> float | Floats: ...


@dataclass(frozen=True, slots=True)
class Weaker:
    """A comparison with failed runs: as observed, with the method's failures at the worst score, and at the best one.

    What is claimed must hold in all of them.
    """

    observed: Comparison
    worst: Comparison
    best: Comparison

    @property
    def seeds(self) -> int:
        return self.observed.seeds

    def p_above(self, null: float = 0.0) -> Floats:
        return np.maximum(_known(self.observed.p_above(null)), _known(self.worst.p_above(null)))

    def p_below(self, null: float = 0.0) -> Floats:
        return np.maximum(_known(self.observed.p_below(null)), _known(self.best.p_below(null)))


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim to be judged. `ladder` is equal for claims that form one; a control that was not run stands as None.

    `margin`: smallest difference worth having, in the unit of the comparisons; 0 where none was declared.
    """

    ladder: Hashable
    needs: tuple[Comparison | None, ...]
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """Verdicts (indices into `WORDS`) of one claim, and the adjusted two-sided p of each word; 1 where not testable."""

    index: NDArray[np.int64]
    p: dict[str, Floats]
    testable: bool

    @property
    def word(self) -> ClaimVerdict:
        """The verdict on a single matrix."""
        return list(WORDS)[int(self.index)]


def _known(p: float | Floats) -> Floats:
    return np.nan_to_num(np.asarray(p, dtype=float), nan=1.0)


def word_of(p: dict[str, Floats], alpha: float = ALPHA) -> NDArray[np.int64]:
    """The verdict of adjusted p-values, as an index into `WORDS`: the first of the following that holds.

    equivalent: within +-m (a difference surely too small to be worth having, whatever its sign). better by more than m.
    better: above zero. worse: below zero. undecided: none of these. Missing keys hold nowhere.
    """
    names = list(WORDS)
    index = np.full(next(iter(p.values())).shape, names.index("undecided"), dtype=np.int64)
    for name in ("worse", "better", "better by more than m", "equivalent"):  # a later one overrides
        if name in p:
            index[p[name] <= alpha] = names.index(name)
    return index


def judge_family(
    claims: Sequence[Claimed], alpha: float = ALPHA, look: Look | None = None, declared: bool = True
) -> list[Ruling]:
    """Verdicts of the claims of one family, each word controlled at two-sided `alpha` over all of them.

    Declared: the family-wise error, by closed ladders. Not declared: the false discovery rate (Benjamini-Hochberg). `look`
    says which of the planned looks this is, and charges it for all. Below LEAST_SEEDS paired seeds a comparison tests
    nothing. Against a claim it is enough that one of its comparisons is worse or equivalent; those of the whole family
    are corrected together, a shared one once.
    """

    def two_sided(comparison: Comparison | None, side: str, null: float) -> Floats:
        if comparison is None or comparison.seeds < LEAST_SEEDS:
            return np.asarray(1.0)
        one = _known(comparison.p_above(null) if side == "above" else comparison.p_below(null))
        return np.minimum(1.0, 2 * (one if look is None else look.overall(one)))

    def joined(how: np.ufunc, found: Iterable[Floats]) -> Floats:
        """The largest or the smallest of p-values of one shape or none."""
        return np.asarray(how.reduce(np.broadcast_arrays(*found)))

    support: dict[str, list[Floats]] = {}
    for word in ("better", "better by more than m"):
        nulls = [0.0 if word == "better" else claim.margin for claim in claims]
        raw = [
            joined(np.maximum, [two_sided(c, "above", null) for c in claim.needs])
            for claim, null in zip(claims, nulls, strict=True)
        ]
        support[word] = closed_ladders(raw, [c.ladder for c in claims]) if declared else benjamini_hochberg(raw)
    # Each comparison once, at the widest margin that any claim asks of it.
    needs = [(id(c), c, claim.margin) for claim in claims for c in claim.needs]
    by_id = {place: c for place, c, _ in needs}
    margins = {place: max(margin for other, _, margin in needs if other == place) for place in by_id}
    adjust = holm if declared else benjamini_hochberg
    below = [two_sided(c, "below", 0.0) for c in by_id.values()]
    inside = [
        np.maximum(two_sided(c, "above", -margins[i]), two_sided(c, "below", margins[i]) if margins[i] > 0 else 1.0)
        for i, c in by_id.items()
    ]
    against = {name: dict(zip(by_id, adjust(p), strict=True)) for name, p in (("worse", below), ("equivalent", inside))}
    rulings = []
    for place, claim in enumerate(claims):
        p = {word: values[place] for word, values in support.items() if word == "better" or claim.margin > 0}
        p |= {name: joined(np.minimum, [found[id(c)] for c in claim.needs]) for name, found in against.items()}
        p = dict(zip(p, np.broadcast_arrays(*p.values()), strict=True))
        testable = all(c is not None and c.seeds >= LEAST_SEEDS for c in claim.needs)
        rulings.append(Ruling(word_of(p, alpha), p, testable))
    return rulings


def failure_bounds(first: Floats, second: Floats, worst: float, best: float) -> tuple[CrossedMean, CrossedMean] | None:
    """The means of first - second with failed runs, scores of shape (seeds, prompts) with a row of NaN for each of them.

    At the worst score for the claim and at the best one: a failed run of the first arm at `worst` and one of the second at
    `best`, and the reverse. None where no run failed.
    """
    lost, gone = np.isnan(first.mean(axis=1)), np.isnan(second.mean(axis=1))
    if not (lost | gone).any():
        return None
    low, high = (
        crossed_mean(np.where(lost[:, None], own, first) - np.where(gone[:, None], other, second))
        for own, other in ((worst, best), (best, worst))
    )
    return low, high


# From scores to comparisons: what the report does with the runs of a matrix, and the simulations with theirs.


@dataclass(frozen=True, slots=True)
class Asserted:
    """A claim on arrays: `method` beats each of `others`; the first of these is the baseline, the rest are its controls."""

    method: str
    others: tuple[str, ...]
    margin: float = 0.0


def compare_arms(scores: Mapping[str, Floats], asserted: Sequence[Asserted], moderated: bool = True) -> list[Claimed]:
    """Claims with their comparisons, from scores of every arm, shape (..., settings, seeds, prompts), larger being better.

    The method is judged at the setting that shows most against all settings of the baseline, and there against its own
    control: a control has the method's settings, in the same order. Seed variances are moderated over all arms given
    unless `moderated` is False.
    """
    arms = [(name, setting) for name, values in scores.items() for setting in range(values.shape[-3])]
    place = {arm: i for i, arm in enumerate(arms)}
    levels = np.stack([scores[name][..., setting, :, :].mean(axis=-1) for name, setting in arms], axis=-2)

    def compared(first: tuple[str, int], second: tuple[str, int]) -> Means:
        (a, i), (b, j) = first, second
        difference = scores[a][..., i, :, :] - scores[b][..., j, :, :]
        lent = prior(levels, place[first], place[second], difference.shape[-1]) if moderated else None
        return crossed_means(difference, lent)

    def means(pairs: Sequence[Sequence[tuple[tuple[str, int], tuple[str, int]]]]) -> Means:
        table = [[compared(first, second) for first, second in row] for row in pairs]
        return Means(
            *(
                np.stack([np.stack([getattr(m, key) for m in row], axis=-1) for row in table], axis=-2)
                for key in ("value", "stderr", "degrees")
            )
        )

    made: dict[tuple[str, str], Paid] = {}
    claims = []
    for claim in asserted:
        own, seeds = scores[claim.method].shape[-3:-1]
        baseline, *controls = claim.others
        first = claim.method, baseline
        if first not in made:
            theirs = range(scores[baseline].shape[-3])
            found = means([[((claim.method, i), (baseline, j)) for j in theirs] for i in range(own)])
            row = np.nan_to_num(found.p_above(), nan=1.0).max(axis=-1).argmin(axis=-1)
            made[first] = Paid(found, seeds, row)
        for other in controls:
            if (claim.method, other) not in made:
                paired = means([[((claim.method, i), (other, i))] for i in range(own)])
                made[claim.method, other] = Paid(paired, seeds, made[first].row)
        claims.append(Claimed(first, tuple(made[claim.method, other] for other in claim.others), claim.margin))
    return claims
