"""Seed variances moderated over arms: Smyth's formulas, the pooled limit, and one noisy arm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import polygamma

from reports.statistics.crossed import crossed_mean, crossed_means
from reports.statistics.moderated import MOST_BORROWED, prior, prior_degrees, trigamma_inverse


def test_trigamma_is_inverted() -> None:
    x = np.array([1e-3, 0.1, 1.0, 7.0, 500.0])
    assert polygamma(1, trigamma_inverse(x)) == pytest.approx(x, rel=1e-8)
    assert float(trigamma_inverse(np.pi**2 / 6)) == pytest.approx(1.0)  # trigamma(1) = pi^2 / 6


@pytest.mark.parametrize("degrees", [2.0, 8.0, 20.0])
def test_prior_degrees_are_recovered_from_many_variances(degrees: float) -> None:
    """Smyth's model: s2 ~ s0^2 F(d, d0)."""
    v = 3.0 * stats.f.rvs(4, degrees, size=40_000, random_state=1)
    assert float(prior_degrees(v, 4)) == pytest.approx(degrees, rel=0.12)
    assert float(prior_degrees(np.full(5, 2.0), 4)) == np.inf


def test_alike_arms_give_the_pooled_variance() -> None:
    """With alike arms and no bound reached: mean square of the arms x seeds interaction, as a two-way table has it."""
    rng = np.random.default_rng(3)
    made = [rng.normal(size=(4, 5, 30)) + rng.normal(size=(1, 5, 1)) for _ in range(50)]
    every = [(scores, lent) for scores in made if (lent := prior(scores.mean(axis=2), 0, 1, 30)) is not None]
    scores, lent = next((scores, lent) for scores, lent in every if float(lent.degrees) == 8.0)
    levels = scores.mean(axis=2)
    table = levels - levels.mean(axis=1, keepdims=True) - levels.mean(axis=0) + levels.mean()
    pooled = 2 * 30 * float((table**2).sum()) / (3 * 4)
    own = 30 * float((levels[0] - levels[1]).var(ddof=1))
    assert (8 * float(lent.seed) + 4 * own) / 12 == pytest.approx(pooled)
    with_others = crossed_mean(scores[0] - scores[1], lent)
    assert with_others.borrowed == 8.0 and with_others.alone == crossed_mean(scores[0] - scores[1])
    assert with_others.estimate == pytest.approx(crossed_mean(scores[0] - scores[1]).estimate)


def test_a_noisy_arm_lends_and_borrows_little() -> None:
    rng = np.random.default_rng(5)
    scale = np.array([10.0, 1, 1, 1, 1])[:, None]
    alike, noisy = rng.normal(size=(400, 5, 5)), scale * rng.normal(size=(400, 5, 5))
    first, second = prior(alike, 0, 1, 10), prior(noisy, 0, 1, 10)
    assert first is not None and second is not None
    assert np.median(first.degrees) == MOST_BORROWED > 1 > np.median(second.degrees)


def test_nothing_is_lent_by_two_arms_or_one_seed() -> None:
    assert prior(np.zeros((2, 5)), 0, 1, 10) is None
    assert prior(np.zeros((4, 1)), 0, 1, 10) is None
    tied = prior(np.zeros((4, 5)), 0, 1, 10)
    assert tied is not None and crossed_mean(np.zeros((5, 10)), tied).stderr is None


def test_size_of_the_moderated_test() -> None:
    """2,000 comparisons of alike arms: one-sided level .025."""
    rng, hits = np.random.default_rng(6), []
    for _ in range(4):
        scores = rng.normal(size=(500, 4, 5, 30)) + rng.normal(0, 0.5, (500, 4, 5, 1))
        lent = prior(scores.mean(axis=3), 0, 1, 30)
        hits.append(crossed_means(scores[:, 0] - scores[:, 1], lent).p_above() <= 0.025)
    assert 0.012 <= np.mean(hits) <= 0.036
