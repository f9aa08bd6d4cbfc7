"""Tests of a paired difference over prompts: exact McNemar for 0/1 values, sign flips for any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .resampling import random_signs
from .results import Test

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
