"""Paired tests over prompts and seeds, and their resampling."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from reports.schema.base import Estimate, Test
from reports.statistics.intervals import estimated, outcome, plain, t_interval, undefined

# Tests of a paired difference over prompts: exact McNemar for 0/1 values, sign flips for any.


EXACT_LIMIT = 16  # up to this many non-zero differences all 2^n sign patterns are enumerated
CHUNK = 1000  # sign patterns turned into floats at once; bounds memory to CHUNK x items


def mcnemar(a: ArrayLike, b: ArrayLike) -> Test:
    """Exact McNemar test on 0/1 outcomes of the same items, shape (n,) each: a two-sided binomial test on the discordant pairs.

    Graded scores take `sign_flip`.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    wins, losses = int((x > y).sum()), int((x < y).sum())
    if wins + losses == 0:
        return outcome(1.0, "exact McNemar", x.size, note="the two policies agree on every item")
    p = float(stats.binomtest(wins, wins + losses).pvalue)
    return outcome(p, "exact McNemar", x.size, smallest=min(1.0, 2.0 ** (1 - wins - losses)))


def sign_flip(differences: ArrayLike, replicates: int = 10_000, seed: int = 0) -> Test:
    """Two-sided sign-flip permutation test that the differences, shape (n,), are symmetric about zero.

    Zero differences carry no sign. Few enough others are enumerated exactly; else `replicates` random patterns are
    drawn and the observed one counted among them, so p is never zero.
    """
    return sign_flips([differences], replicates, seed)[0]


def sign_flips(columns: Sequence[ArrayLike], replicates: int = 10_000, seed: int = 0) -> list[Test]:
    """`sign_flip` of each column; those of one length share their passes over the random signs, which is what takes time."""
    arrays = [np.asarray(d, dtype=float) for d in columns]
    few = [np.count_nonzero(d) <= EXACT_LIMIT for d in arrays]
    found = {i: _exact(arrays[i]) for i, exact in enumerate(few) if exact}
    for size in {d.size for d, exact in zip(arrays, few, strict=True) if not exact}:
        places = [i for i, d in enumerate(arrays) if d.size == size and not few[i]]
        together = np.column_stack([arrays[i] for i in places])
        hits = np.zeros(len(places), dtype=np.int64)
        for signs in np.array_split(_signs(size, replicates, seed), max(1, replicates // CHUNK)):
            hits += (np.abs(signs @ together) >= [_observed(arrays[i]) for i in places]).sum(axis=0)
        name, least = f"sign-flip permutation, {replicates} draws", 1 / (replicates + 1)
        found |= {i: outcome((int(h) + 1) * least, name, size, None, least) for i, h in zip(places, hits, strict=True)}
    return [found[i] for i in range(len(arrays))]


@lru_cache(maxsize=2)
def _signs(items: int, replicates: int, seed: int) -> NDArray[np.int8]:
    """Random signs -1 and 1, shape (replicates, items); many tests share them."""
    drawn = np.random.default_rng(seed).integers(0, 2, size=(replicates, items), dtype=np.int8)
    return np.asarray(drawn * 2 - 1, dtype=np.int8)


def _observed(d: NDArray[np.float64]) -> float:
    return abs(float(d[d != 0].sum())) * (1 - 1e-12)  # equal sums in another order of addition must count as equal


def every_sign(count: int) -> NDArray[np.int64]:
    """All patterns of so many signs, shape (2^count, count)."""
    return 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1) - 1


def _exact(d: NDArray[np.float64]) -> Test:
    moving = d[d != 0]
    if moving.size == 0:
        return outcome(1.0, "sign-flip permutation", d.size, note="all differences are zero")
    p = float((np.abs(every_sign(moving.size) @ moving) >= _observed(d)).mean())
    return outcome(p, "exact sign-flip permutation", d.size, smallest=2.0 ** (1 - moving.size))


# Method-level inference: the training seed is the unit. Prompts are averaged within a seed first.


EXACT_SEEDS = 20  # 2^20 sign patterns: a second and a few megabytes


def smallest_paired_p(seeds: int) -> float:
    """Least two-sided p of the exact paired permutation test with this many seeds: 2 / 2^S."""
    return min(1.0, 2.0 ** (1 - seeds))


def seed_interval(
    values: ArrayLike, items: int = 0, confidence: float = 0.95, bounds: tuple[float, float] | None = None
) -> Estimate:
    """t interval, S-1 degrees of freedom, for the mean of one value per seed, shape (S,).

    Give per-seed means for a method's level, per-seed differences for a paired comparison. `items` is the number of
    prompts behind each value; `bounds` cuts the interval to the range the values can have (0..1 for a share).
    The interval holds the prompts fixed: it says how another seed would differ.
    """
    x = np.asarray(values, dtype=float)
    name = "t interval over seeds"
    if x.size == 0:
        return undefined(name, items, "no finished seed", 0)
    if x.size == 1 or np.ptp(x) == 0:
        alone = "one seed: the spread over seeds cannot be estimated"
        why = alone if x.size == 1 else f"all {x.size} seeds agree exactly: no spread to estimate from"
        return estimated(float(x.mean()), None, None, name, items, x.size, note=why)
    note = f"only {x.size} seeds: the interval rests on {x.size - 1} degree(s) of freedom" if x.size < 5 else None
    found = t_interval(float(x.mean()), plain(x), x.size - 1, name, items, x.size, confidence, note)
    if bounds is None or found.low is None or found.high is None:
        return found
    return found.model_copy(update={"low": max(found.low, bounds[0]), "high": min(found.high, bounds[1])})


def seed_permutation(differences: ArrayLike, alpha: float = 0.05) -> Test:
    """Exact sign-flip test on one difference per seed, shape (S,), all 2^S patterns; random ones above EXACT_SEEDS seeds.

    When 2/2^S exceeds alpha the note reads `S=... cannot reach p <= ...`: no data could have given a smaller p.
    """
    d = np.asarray(differences, dtype=float)
    name = "exact sign-flip permutation over seeds"
    if d.size == 0:
        return outcome(None, name, 0, 0, note="no paired seed")
    if d.size > EXACT_SEEDS:
        return sign_flip(d)
    least = smallest_paired_p(d.size)
    note = f"S={d.size} cannot reach p <= {alpha:g} (minimum possible p {least:.3g})" if least > alpha else None
    return outcome(_exact(d).p_value, name, 0, d.size, least, note)


# Other analyses of the same differences, one per seed: what a mean hides. They are shown beside the verdict, not in its place.


def trimmed_test(differences: ArrayLike, cut: float = 0.2, confidence: float = 0.95) -> tuple[Estimate, Test]:
    """Mean without the lowest and highest `cut` of the seeds, with Yuen's interval and test (Tukey and McLaughlin 1963).

    At least one seed goes at each end from five seeds on; below, nothing is trimmed and it is the t interval.
    """
    d = np.sort(np.asarray(differences, dtype=float))
    gone = int(cut * d.size + 1e-9)
    name = f"mean of {d.size - 2 * gone} of {d.size} seeds, Winsorised t"
    held = np.clip(d, d[gone], d[-1 - gone]) if d.size else d
    if d.size < 2 or np.ptp(held) == 0:
        why = "the seeds left do not vary" if d.size > 1 else f"cannot be computed with S={d.size}"
        return undefined(name, 0, why, d.size), outcome(None, name, 0, d.size, note=why)
    centre, degrees = float(d[gone : d.size - gone].mean()), d.size - 2 * gone - 1
    error = plain(held) / (1 - 2 * gone / d.size)
    p = float(2 * special.stdtr(degrees, -abs(centre) / error))
    estimate = t_interval(centre, error, degrees, name, 0, d.size, confidence)
    return estimate, outcome(p, name, 0, d.size)


def rank_test(differences: ArrayLike) -> Test:
    """Wilcoxon's signed-rank test over seeds, exact over all sign patterns of the ranks (zeros dropped, ties averaged)."""
    d = np.asarray(differences, dtype=float)
    moving, name = d[d != 0], "signed-rank test over seeds"
    found = sign_flip(np.sign(moving) * stats.rankdata(np.abs(moving)))
    note = found.note if d.size else "no paired seed"
    return outcome(found.p_value if d.size else None, name, 0, d.size, smallest_paired_p(moving.size), note)
