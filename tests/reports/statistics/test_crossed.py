"""Two-way inference and design: known values, oracles, and the size of the test that the verdicts rest on."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.statistics.association import within_runs
from reports.statistics.crossed import MeanSquares, crossed_mean, mean_squares, variance_of_mean
from reports.statistics.design import (
    Spread,
    components,
    expected_squares,
    minimum_detectable_effect,
    needed,
    power,
)


def test_mean_squares_agree_with_statsmodels() -> None:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    d = np.random.default_rng(0).normal(size=(4, 9)) + np.arange(9)
    cells = list(itertools.product(range(4), range(9)))
    frame = pd.DataFrame({"s": [c[0] for c in cells], "p": [c[1] for c in cells], "y": d.ravel()})
    table = anova_lm(ols("y ~ C(s) + C(p)", frame).fit())["mean_sq"]
    found = mean_squares(d)
    assert [found.seed, found.prompt, found.residual] == pytest.approx(
        [table["C(s)"], table["C(p)"], table["Residual"]]
    )


def test_satterthwaite_by_hand() -> None:
    variance, degrees = variance_of_mean(MeanSquares(4.0, 3.0, 1.0, seeds=5, prompts=11))
    assert variance == pytest.approx(6 / 55)
    assert degrees == pytest.approx(36 / (16 / 4 + 9 / 10 + 1 / 40))
    assert variance_of_mean(MeanSquares(4.0, 0.5, 1.0, 5, 11)) == (pytest.approx(4 / 55), 4.0)


def test_one_figure_per_seed_is_the_t_interval_over_seeds() -> None:
    d = np.array([0.1, 0.3, 0.2, 0.25, 0.0])
    mean = crossed_mean(d[:, None])
    interval = mean.interval()
    low, high = stats.t.interval(0.95, 4, d.mean(), stats.sem(d))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    p = mean.p_above()
    assert p is not None and 2 * p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert mean.p_below(0.1) == pytest.approx(stats.ttest_1samp(d, 0.1, alternative="less").pvalue)


def test_undefined_means_say_why() -> None:
    assert "one seed" in (crossed_mean(np.ones((1, 4))).interval().as_dict()["reason"])
    assert "all differences are equal" in crossed_mean(np.full((5, 4), 0.1)).interval().as_dict()["reason"]
    assert crossed_mean(np.empty((0, 0))).interval().as_dict()["value"] is None
    with pytest.raises(ValueError, match="finite"):
        crossed_mean(np.full((2, 2), np.nan))


def rejections(spread: Spread, effect: float, seeds: int, prompts: int, repeats: int) -> tuple[float, float]:
    """Share of two-sided rejections in the effect's direction: crossed test, t test over seeds."""
    rng, hits = np.random.default_rng(5), np.zeros(2)
    for _ in range(repeats):
        d = effect + rng.normal(0, spread.seed, (seeds, 1)) + rng.normal(0, spread.prompt, (1, prompts))
        d = d + rng.normal(0, spread.residual, (seeds, prompts))
        crossed = crossed_mean(d).p_above()
        over_seeds = stats.ttest_1samp(d.mean(axis=1), 0, alternative="greater").pvalue
        hits += [crossed is not None and crossed <= 0.025, over_seeds <= 0.025]
    return float(hits[0] / repeats), float(hits[1] / repeats)


@pytest.mark.parametrize(
    "spread", [Spread(0.02, 0.14, 0.42), Spread(0.1, 0.14, 0.42), Spread(0.01, 0.5, 0.3), Spread(0.0, 0.0, 0.5)]
)
def test_size_holds_whatever_varies(spread: Spread) -> None:
    # 1000 repetitions at level .025: three standard errors are .015.
    assert rejections(spread, 0.0, 5, 100, 1000)[0] <= 0.04


def test_t_over_seeds_is_too_short_when_prompts_vary() -> None:
    crossed, over_seeds = rejections(Spread(0.01, 0.5, 0.3), 0.0, 5, 100, 600)
    assert crossed <= 0.05 < 0.15 <= over_seeds


@pytest.mark.parametrize(("seeds", "prompts"), [(5, 100), (5, 400), (10, 100)])
def test_power_is_what_simulation_gives(seeds: int, prompts: int) -> None:
    spread = Spread(0.02, 0.14, 0.42)
    predicted = power(spread, 0.06, seeds, prompts)
    assert rejections(spread, 0.06, seeds, prompts, 600)[0] == pytest.approx(predicted, abs=0.07)


def test_power_of_seeds_alone_is_the_textbook_t_test() -> None:
    from statsmodels.stats.power import TTestPower

    found = power(Spread(0.05, 0.0, 0.0), 0.06, 6, 50)
    both_sides = TTestPower().power(0.06 / 0.05, 6, 0.05)
    assert found == pytest.approx(both_sides, abs=1e-3)


def test_needed_inverts_power() -> None:
    spread = Spread(0.02, 0.14, 0.42)
    seeds = needed(spread, 0.06, prompts=200)
    prompts = needed(spread, 0.06, seeds=5)
    assert seeds is not None and prompts is not None
    assert power(spread, 0.06, seeds, 200) >= 0.8 > power(spread, 0.06, seeds - 1, 200)
    assert power(spread, 0.06, 5, prompts) >= 0.8 > power(spread, 0.06, 5, prompts - 1)
    assert needed(Spread(0.1, 0.14, 0.42), 0.06, seeds=3) is None  # prompts cannot replace seeds
    assert needed(Spread(0.1, 0.5, 0.42), 0.01, prompts=100) is None  # nor seeds prompts
    many = minimum_detectable_effect(1 / np.sqrt(200_000))
    assert power(Spread(0.0, 0.0, 1.0), many, 500, 400) == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match="either seeds or prompts"):
        needed(spread, 0.06)


def test_components_are_recovered_and_the_cautious_ones_are_larger() -> None:
    truth, rng = Spread(0.2, 0.5, 1.0), np.random.default_rng(3)
    squares = []
    for _ in range(40):
        d = rng.normal(0, truth.seed, (8, 1)) + rng.normal(0, truth.prompt, (1, 60)) + rng.normal(0, 1, (8, 60))
        squares.append(mean_squares(d))
    measured, cautious = components(squares)
    assert measured.seed == pytest.approx(truth.seed, rel=0.15)
    assert measured.prompt == pytest.approx(truth.prompt, rel=0.1)
    assert measured.residual == pytest.approx(truth.residual, rel=0.05)
    assert cautious.seed > measured.seed and cautious.prompt > measured.prompt and cautious.residual > 1
    same = expected_squares(truth, 8, 60)
    assert components([same])[0].seed == pytest.approx(truth.seed)


def test_components_bound_covers_the_seed_spread() -> None:
    truth, rng = Spread(0.1, 0.1, 0.3), np.random.default_rng(4)
    above = []
    for _ in range(300):
        d = rng.normal(0, truth.seed, (3, 1)) + rng.normal(0, truth.prompt, (1, 100)) + rng.normal(0, 0.3, (3, 100))
        above.append(components([mean_squares(d)])[1].seed >= truth.seed)
    assert np.mean(above) == pytest.approx(0.8, abs=0.07)


def test_spread_must_be_a_spread() -> None:
    for bad in ((-1, 0, 1), (float("nan"), 1, 1)):
        with pytest.raises(ValueError, match="standard deviations"):
            Spread(*bad)


def test_within_runs_finds_the_sign_that_pooling_reverses() -> None:
    rng = np.random.default_rng(1)
    level, steps = np.arange(6.0)[:, None], np.repeat(np.arange(40), 5)
    x = rng.normal(size=(6, 200))
    y = -0.5 * x + rng.normal(size=(6, 200))
    result = within_runs(x + 3 * level, y + 3 * level, steps)
    assert result.high is not None and result.high < 0
    assert stats.spearmanr((x + 3 * level).ravel(), (y + 3 * level).ravel()).statistic > 0.5
    assert result.estimate == pytest.approx(-0.43, abs=0.06)


def test_within_runs_keeps_its_level_with_drift_and_trend() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(300):
        walk = np.cumsum(rng.normal(size=(2, 5, 100)), axis=2) + np.linspace(0, 20, 100)
        result = within_runs(walk[0], walk[1], np.arange(100))
        hits += result.low is not None and result.high is not None and not result.low <= 0 <= result.high
    assert hits / 300 <= 0.09  # 5 % and three standard errors


def test_within_runs_undefined_and_shapes() -> None:
    fixed = within_runs(np.full((3, 8), 0.1), np.random.default_rng(0).normal(size=(3, 8)), np.arange(8))
    assert "does not vary" in fixed.as_dict()["reason"]
    with pytest.raises(ValueError, match="shapes"):
        within_runs(np.zeros((2, 3)), np.zeros((2, 4)), np.arange(3))
