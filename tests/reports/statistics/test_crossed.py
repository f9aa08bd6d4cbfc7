"""Two-way inference and design: known values, oracles, size of the test that verdicts rest on; ties, and moderated variances."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import polygamma

from reports.statistics.association import within_runs
from reports.statistics.crossed import MeanSquares, crossed_mean, crossed_means, mean_squares, variance_of_mean
from reports.statistics.design import Spread, components, expected_squares, minimum_detectable_effect, needed, power
from reports.statistics.moderated import MOST_BORROWED, prior, prior_degrees, trigamma_inverse

# Two-way inference and design: known values, oracles, and the size of the test that the verdicts rest on.


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
    assert 2 * mean.p_above() == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert mean.p_below(0.1) == pytest.approx(stats.ttest_1samp(d, 0.1, alternative="less").pvalue)


def test_undefined_means_say_why() -> None:
    assert "one seed" in (crossed_mean(np.ones((1, 4))).interval().reason)
    assert "all differences are equal" in crossed_mean(np.full((5, 4), 0.1)).interval().reason
    assert crossed_mean(np.empty((0, 0))).interval().value is None
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
        hits += [crossed <= 0.025, over_seeds <= 0.025]
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


def test_within_runs_finds_the_sign_that_pooling_reverses() -> None:
    rng = np.random.default_rng(1)
    level, steps = np.arange(6.0)[:, None], np.repeat(np.arange(40), 5)
    x = rng.normal(size=(6, 200))
    y = -0.5 * x + rng.normal(size=(6, 200))
    result = within_runs(x + 3 * level, y + 3 * level, steps)
    assert result.high is not None and result.high < 0
    assert stats.spearmanr((x + 3 * level).ravel(), (y + 3 * level).ravel()).statistic > 0.5
    assert result.value == pytest.approx(-0.43, abs=0.06)


def test_within_runs_keeps_its_level_with_drift_and_trend() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(300):
        walk = np.cumsum(rng.normal(size=(2, 5, 100)), axis=2) + np.linspace(0, 20, 100)
        result = within_runs(walk[0], walk[1], np.arange(100))
        hits += result.low is not None and result.high is not None and not result.low <= 0 <= result.high
    assert hits / 300 <= 0.09  # 5 % and three standard errors


def test_within_runs_undefined() -> None:
    fixed = within_runs(np.full((3, 8), 0.1), np.random.default_rng(0).normal(size=(3, 8)), np.arange(8))
    assert "does not vary" in fixed.reason


# Tied data: what a rounding error must not decide, and intervals where few cells differ.


TIED = arrays(np.int8, st.tuples(st.integers(2, 6), st.integers(2, 12)), elements=st.integers(-1, 1))


@settings(max_examples=300, deadline=None)
@example(np.array([[1, 0, 0, 0], [1, 0, 0, 0]], dtype=np.int8), 0.1)
@given(TIED, st.sampled_from([0.1, 1 / 3, 7.0, 1e-4]))
def test_the_unit_of_the_scores_changes_nothing(cells: np.ndarray, unit: float) -> None:
    # Differences of scores, as the report has them: equal ones differ by rounding.
    shared = np.arange(cells.shape[1]) % 7
    whole, scaled = crossed_mean(cells.astype(float)), crossed_mean((cells + shared) * unit - shared * unit)
    assert scaled.degrees == pytest.approx(whole.degrees, rel=1e-5, nan_ok=True)
    assert scaled.stderr == pytest.approx(whole.stderr * unit, rel=1e-5, nan_ok=True)
    assert scaled.p_above() == pytest.approx(whole.p_above(), abs=1e-5, nan_ok=True)


@settings(max_examples=300, deadline=None)
@given(TIED)
def test_whatever_varies_has_an_interval(cells: np.ndarray) -> None:
    d = cells.astype(float)
    mean = crossed_mean(d)
    interval = mean.interval()
    if np.ptp(d) == 0:
        assert interval.low is None and "all differences are equal" in (mean.note or "")
        return
    assert mean.degrees >= 0.5 and interval.low is not None and interval.high is not None
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
    assert found.value == 0 and found.p_above() == pytest.approx(0.5)
    assert found.stderr == pytest.approx(np.sqrt(mean_squares(d).residual / 50))
    d[1, 7] = 0.0
    for seed in range(5):  # one gain under every seed, each on another prompt: 5 of 50 cells
        d[seed] = np.eye(10)[seed]
    assert 0.02 < crossed_mean(d).p_above() < 0.1  # five gains, no loss: the exact sign test gives 1/32


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


# Seed variances moderated over arms: Smyth's formulas, the pooled limit, and one noisy arm.


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
    assert with_others.value == pytest.approx(crossed_mean(scores[0] - scores[1]).value)


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
    assert tied is not None and np.isnan(crossed_mean(np.zeros((5, 10)), tied).stderr)


def test_size_of_the_moderated_test() -> None:
    """2,000 comparisons of alike arms: one-sided level .025."""
    rng, hits = np.random.default_rng(6), []
    for _ in range(4):
        scores = rng.normal(size=(500, 4, 5, 30)) + rng.normal(0, 0.5, (500, 4, 5, 1))
        lent = prior(scores.mean(axis=3), 0, 1, 30)
        hits.append(crossed_means(scores[:, 0] - scores[:, 1], lent).p_above() <= 0.025)
    assert 0.012 <= np.mean(hits) <= 0.036
