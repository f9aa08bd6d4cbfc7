"""Tied data: what a rounding error must not decide, and intervals where few cells differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reports.statistics.crossed import MeanSquares, crossed_mean, crossed_means, mean_squares, variance_of_mean

TIED = arrays(np.int8, st.tuples(st.integers(2, 6), st.integers(2, 12)), elements=st.integers(-1, 1))


@settings(max_examples=300)
@given(TIED, st.sampled_from([0.1, 1 / 3, 7.0, 1e-4]))
def test_the_unit_of_the_scores_changes_nothing(cells: np.ndarray, unit: float) -> None:
    # Differences of scores, as the report has them: equal ones differ by rounding.
    shared = np.arange(cells.shape[1]) % 7
    whole, scaled = crossed_mean(cells.astype(float)), crossed_mean((cells + shared) * unit - shared * unit)
    assert (whole.stderr is None) == (scaled.stderr is None)
    if whole.stderr is not None and scaled.stderr is not None:
        assert scaled.degrees == pytest.approx(whole.degrees, rel=1e-5)
        assert scaled.stderr == pytest.approx(whole.stderr * unit, rel=1e-5)
        assert scaled.p_above() == pytest.approx(whole.p_above(), abs=1e-5)


@settings(max_examples=300)
@given(TIED)
def test_whatever_varies_has_an_interval(cells: np.ndarray) -> None:
    d = cells.astype(float)
    mean = crossed_mean(d)
    interval = mean.interval()
    if np.ptp(d) == 0:
        assert interval.low is None and "all differences are equal" in (mean.note or "")
        return
    assert mean.degrees is not None and mean.degrees >= 0.5
    assert interval.low is not None and interval.high is not None
    assert interval.low < d.mean() < interval.high
    seeds, prompts = d.shape
    both = crossed_means(np.stack([d, d[::-1, ::-1]]))
    assert both.stderr == pytest.approx([mean.stderr] * 2) and both.degrees == pytest.approx([mean.degrees] * 2)
    assert mean_squares(d).seeds == seeds and mean_squares(d).prompts == prompts


def test_mean_squares_that_tie_up_to_rounding_are_equal() -> None:
    exact = MeanSquares(0.5, 0.3, 0.3, seeds=2, prompts=12)
    rounded = MeanSquares(0.5, 0.1 + 0.2, 0.3, seeds=2, prompts=12)
    assert variance_of_mean(exact) == (pytest.approx(0.5 / 24), 1.0)
    assert variance_of_mean(rounded)[1] == 1.0


def test_two_cells_of_many_that_differ_have_an_honest_interval() -> None:
    d = np.zeros((5, 10))
    d[1, 2], d[1, 7] = 1.0, -1.0  # every seed has the same mean
    found = crossed_mean(d)
    assert found.estimate == 0 and found.p_above() == pytest.approx(0.5)
    assert found.stderr == pytest.approx(np.sqrt(mean_squares(d).residual / 50))
    d[1, 7] = 0.0
    for seed in range(5):  # one gain under every seed, each on another prompt: 5 of 50 cells
        d[seed] = np.eye(10)[seed]
    p = crossed_mean(d).p_above()
    assert p is not None and 0.02 < p < 0.1  # five gains, no loss: the exact sign test gives 1/32


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("prompts", [10, 40])
def test_size_where_most_cells_tie(rate: float, prompts: int) -> None:
    rng = np.random.default_rng(7)
    d = rng.choice([-1.0, 0.0, 1.0], size=(2000, 5, prompts), p=[rate / 2, 1 - rate, rate / 2])
    means = crossed_means(d)
    assert (means.p_above() <= 0.025).mean() <= 0.025 + 0.0105  # three standard errors
    assert np.isfinite(means.stderr[np.ptp(d, axis=(1, 2)) > 0]).all()


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_coverage_of_rare_gains(rate: float) -> None:
    """Gains without losses, as where the baseline fails everywhere: the lower bound is seldom above the truth."""
    d = (np.random.default_rng(8).random((2000, 5, 40)) < rate).astype(float)
    assert (crossed_means(d).p_above(rate) <= 0.025).mean() <= 0.0355
