"""Paired tests over prompts and seeds, and their resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from reports.statistics.resampling import random_signs
from reports.statistics.results import Estimate, Test, undefined

# Tests of a paired difference over prompts: exact McNemar for 0/1 values, sign flips for any.


EXACT_LIMIT = 16  # up to this many non-zero differences all 2^n sign patterns are enumerated


def mcnemar(a: ArrayLike, b: ArrayLike) -> Test:
    """Exact McNemar test on 0/1 outcomes of the same items, shape (n,) each.

    A two-sided binomial test on the discordant pairs. Raises ValueError for values other than 0 and 1.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not (np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all()):
        raise ValueError("mcnemar: values must be 0 or 1; use sign_flip for graded scores")
    wins, losses = int((x > y).sum()), int((x < y).sum())
    if wins + losses == 0:
        return Test(1.0, "exact McNemar", x.size, note="the two policies agree on every item")
    p = float(stats.binomtest(wins, wins + losses).pvalue)
    return Test(p, "exact McNemar", x.size, smallest_p=min(1.0, 2.0 ** (1 - wins - losses)))


def sign_flip(differences: ArrayLike, replicates: int = 10_000, seed: int = 0) -> Test:
    """Two-sided sign-flip permutation test that the differences, shape (n,), are symmetric about zero.

    Zero differences carry no sign. Few enough others are enumerated exactly; else `replicates` random patterns are
    drawn and the observed one counted among them, so p is never zero.
    """
    return sign_flips([differences], replicates, seed)[0]


def sign_flips(columns: Sequence[ArrayLike], replicates: int = 10_000, seed: int = 0) -> list[Test]:
    """`sign_flip` of each column; those of one length share their passes over the random signs, which is what takes time."""
    arrays = [np.asarray(d, dtype=float) for d in columns]
    tests: list[Test | None] = [_exact(d) for d in arrays]
    for size in {d.size for d, test in zip(arrays, tests, strict=True) if test is None}:
        open_ = [i for i, d in enumerate(arrays) if tests[i] is None and d.size == size]
        together = np.column_stack([arrays[i] for i in open_])
        observed = np.array([_observed(arrays[i]) for i in open_])
        hits = np.zeros(len(open_), dtype=np.int64)
        for signs in random_signs(size, replicates, seed):
            hits += (np.abs(signs @ together) >= observed).sum(axis=0)
        for i, count in zip(open_, hits.tolist(), strict=True):
            p = (count + 1) / (replicates + 1)
            tests[i] = Test(p, f"sign-flip permutation, {replicates} draws", size, smallest_p=1 / (replicates + 1))
    return [test for test in tests if test is not None]


def _observed(d: NDArray[np.float64]) -> float:
    return abs(float(d[d != 0].sum())) * (1 - 1e-12)  # equal sums in another order of addition must count as equal


def _exact(d: NDArray[np.float64]) -> Test | None:
    """The test where all sign patterns can be enumerated; None where they cannot."""
    moving = d[d != 0]
    if moving.size == 0:
        return Test(1.0, "sign-flip permutation", d.size, note="all differences are zero")
    if moving.size > EXACT_LIMIT:
        return None
    patterns = np.arange(2**moving.size)[:, None] >> np.arange(moving.size) & 1
    sums = (2 * patterns - 1) @ moving
    p = float((np.abs(sums) >= _observed(d)).mean())
    return Test(p, "exact sign-flip permutation", d.size, smallest_p=2.0 ** (1 - moving.size))


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
    mean = float(x.mean())
    if x.size == 1:
        return Estimate(mean, None, None, name, items, 1, note="one seed: the spread over seeds cannot be estimated")
    if np.ptp(x) == 0:
        return Estimate(
            mean, None, None, name, items, x.size, note=f"all {x.size} seeds agree exactly: no spread to estimate from"
        )
    error = float(x.std(ddof=1) / np.sqrt(x.size))
    half = float(special.stdtrit(x.size - 1, 0.5 + confidence / 2)) * error
    note = f"only {x.size} seeds: the interval rests on {x.size - 1} degree(s) of freedom" if x.size < 5 else None
    low, high = mean - half, mean + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(mean, low, high, name, items, x.size, error, confidence, note)


def seed_permutation(differences: ArrayLike, alpha: float = 0.05) -> Test:
    """Exact sign-flip test on one difference per seed, shape (S,), all 2^S patterns.

    When 2/2^S exceeds alpha the note reads `S=... cannot reach p <= ...`: no data could have given a smaller p.
    """
    d = np.asarray(differences, dtype=float)
    name = "exact sign-flip permutation over seeds"
    if d.size == 0:
        return Test(None, name, 0, 0, note="no paired seed")
    if d.size > EXACT_SEEDS:
        raise ValueError(f"seed_permutation: {d.size} seeds; at most {EXACT_SEEDS} are enumerated, use sign_flip")
    least = smallest_paired_p(d.size)
    patterns = np.arange(2**d.size)[:, None] >> np.arange(d.size) & 1
    sums = np.abs((2 * patterns - 1) @ d)
    p = float((sums >= abs(d.sum()) * (1 - 1e-12)).mean())
    note = f"S={d.size} cannot reach p <= {alpha:g} (minimum possible p {least:.3g})" if least > alpha else None
    return Test(p, name, 0, d.size, least, note)


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
        return undefined(name, 0, why, d.size), Test(None, name, 0, d.size, note=why)
    centre = float(d[gone : d.size - gone].mean())
    error = float(held.std(ddof=1)) / ((1 - 2 * gone / d.size) * np.sqrt(d.size))
    degrees = d.size - 2 * gone - 1
    half = float(special.stdtrit(degrees, 0.5 + confidence / 2)) * error
    estimate = Estimate(centre, centre - half, centre + half, name, 0, d.size, error, confidence)
    return estimate, Test(float(2 * special.stdtr(degrees, -abs(centre) / error)), name, 0, d.size)


def rank_test(differences: ArrayLike) -> Test:
    """Wilcoxon's signed-rank test over seeds, exact over all sign patterns of the ranks (zeros dropped, ties averaged)."""
    d = np.asarray(differences, dtype=float)
    if not d.size:
        return Test(None, "signed-rank test over seeds", 0, 0, note="no paired seed")
    moving = d[d != 0]
    ranks = np.sign(moving) * stats.rankdata(np.abs(moving))
    found = sign_flip(ranks)
    least = smallest_paired_p(moving.size)
    return Test(found.p_value, "signed-rank test over seeds", 0, d.size, least, found.note)
