"""Trimmed, ranked, flipped, clustered, meta-analysed: against scipy, statsmodels and hand-made values."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.robust_compare import TrimmedMean

from reports.statistics.crossed import crossed_mean, mean_squares, studentised_sign_flip
from reports.statistics.frontier import Frontier, band, matched, turned_over
from reports.statistics.intervals import group_columns, largest_failure_rate, plain
from reports.statistics.over_matrices import random_effects
from reports.statistics.paired import rank_test, trimmed_test
from reports.statistics.preferences import length_controlled, length_controlled_cells
from reports.statistics.winrate import win_rate, win_rate_over_seeds

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("seeds", [5, 8, 10])
def test_trimmed_mean_is_statsmodels(seeds: int) -> None:
    d = RNG.normal(0.1, 1, seeds)
    estimate, test = trimmed_test(d)
    oracle = TrimmedMean(d, 0.2)
    assert estimate.value == pytest.approx(oracle.mean_trimmed)
    assert estimate.stderr == pytest.approx(oracle.std_mean_trimmed)
    assert test.p_value == pytest.approx(oracle.ttest_mean(transform="trimmed")[1])


def test_a_collapsed_seed_moves_the_mean_and_not_the_trimmed_one() -> None:
    d = np.array([0.1, 0.12, 0.09, 0.11, 0.1, -3.0])
    assert d.mean() < 0 and trimmed_test(d)[0].value == pytest.approx(0.1, abs=0.01)
    assert trimmed_test(np.ones(5))[1].p_value is None


def test_rank_test_is_scipys() -> None:
    d = RNG.normal(0.3, 1, 9)
    assert rank_test(d).p_value == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    assert rank_test(np.array([1.0, 2, 3, 4, 5])).p_value == pytest.approx(2 / 32)


def test_flips_of_the_studentised_mean() -> None:
    d = np.abs(RNG.normal(1, 0.1, (5, 30)))
    found = studentised_sign_flip(d)
    assert found.p_value == pytest.approx(2 / 32) and found.smallest_p == pytest.approx(2 / 32)
    assert studentised_sign_flip(d[:1]).p_value is None
    hits = [
        (studentised_sign_flip(RNG.normal(size=(6, 20)) + RNG.normal(size=(6, 1))).p_value or 0) <= 0.05
        for _ in range(300)
    ]
    assert np.mean(hits) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_five_of_five_cannot_exclude_45_percent() -> None:
    assert largest_failure_rate(0, 5) == pytest.approx(1 - 0.05**0.2) == pytest.approx(0.451, abs=1e-3)
    assert largest_failure_rate(5, 5) == 1.0


def test_columns_of_unequal_groups_have_the_clustered_error() -> None:
    groups = np.repeat(np.arange(12), [1, 1, 2, 3, 5, 8, 13, 1, 1, 2, 20, 3])
    x = 5 + RNG.normal(size=12)[groups] + RNG.normal(size=groups.size)
    columns = group_columns(x, list(groups))
    assert columns.mean() == pytest.approx(x.mean()) and columns.shape == (12,)
    sums = np.bincount(groups, weights=x - x.mean())
    assert plain(columns) == pytest.approx(np.sqrt(12 / 11 * (sums @ sums)) / x.size)
    both = group_columns(np.stack([x, x + 1]), list(groups))
    assert both[1] - both[0] == pytest.approx(np.ones(12))
    assert group_columns(x, list(range(x.size))) is x


def test_random_effects_are_statsmodels() -> None:
    d, se = np.array([0.1, 0.3, -0.1, 0.25, 0.6]), np.array([0.05, 0.1, 0.08, 0.05, 0.1])
    found = random_effects(d, se, 5)
    oracle = combine_effects(d, se**2, method_re="dl", use_t=True)
    table = oracle.summary_frame().loc["random effect"]
    assert found.interval.value == pytest.approx(table["eff"])
    assert found.between**2 == pytest.approx(oracle.tau2) and found.share == pytest.approx(oracle.i2)
    assert found.interval.stderr == pytest.approx(oracle.sd_eff_w_re_hksj)
    assert found.new_matrix is not None and found.new_matrix[0] < (found.interval.low or -9)


def test_two_matrices_are_too_few() -> None:
    found = random_effects([0.1, 0.2], [0.05, 0.05], 5)
    assert found.interval.low is None and np.isnan(found.p_above()) and "too few" in (found.interval.note or "")
    alike = random_effects([0.1] * 4, [0.05] * 4, 5)
    assert alike.between == 0 and alike.interval.stderr == pytest.approx(0.025)  # not 0: the factor is at least 1


def test_size_of_the_random_effects_test() -> None:
    hits = []
    for _ in range(1000):
        d = 0.1 * RNG.normal(size=4) + 0.05 * RNG.normal(size=4)
        hits.append((random_effects(d, [0.05] * 4, 5).p_above()) <= 0.025)
    assert np.mean(hits) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 1000)


def test_a_method_has_a_win_rate_over_seeds() -> None:
    """Seeds that differ: an interval over prompts alone leaves one half out far too often."""
    pooled = crossed = 0
    for _ in range(300):
        p = (RNG.random((5, 60)) < 0.5 + 0.12 * RNG.normal(size=(5, 1)).clip(-3, 3)).astype(float)
        rate, found = win_rate(p.ravel()), win_rate_over_seeds(p)
        pooled += not (rate.low or 0) <= 0.5 <= (rate.high or 1)
        crossed += not (found.low or 0) <= 0.5 <= (found.high or 1)
    assert pooled / 300 > 0.15 and crossed / 300 <= 0.05 + 3 * 0.0126
    lost = np.full((5, 4), 0.5)
    lost[0, 0] = np.nan
    lost[:, 1] = 1.0
    assert "1 of 4 prompts" in (win_rate_over_seeds(lost).note or "")


def test_length_controlled_cells_carry_rate_and_error() -> None:
    rng, n = np.random.default_rng(3), 300
    gamma, longer = rng.normal(size=n), rng.normal(20, 60, n)
    logit = 0.4 + 0.8 * np.tanh(longer / longer.std(ddof=1)) + gamma
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    whole = length_controlled(y, 100 + longer, np.full(n, 100.0), gamma)
    cells = length_controlled_cells(y, 100 + longer, np.full(n, 100.0), gamma)
    assert cells.mean() == pytest.approx(whole.value)
    assert plain(cells) == pytest.approx(whole.stderr)
    three = np.stack([cells, cells + 0.01, cells - 0.01])
    assert crossed_mean(three).squares == mean_squares(three)


# Frontiers in sqrt(KL): a concave curve against itself, windows, bands and curves that turn over.


def curve(kl: list[float], reward: list[float], root: bool = True, prompts: int = 20) -> Frontier:
    return Frontier(np.array(reward)[:, None] * np.ones(prompts), np.array(kl)[:, None] * np.ones(8), root)


def test_two_runs_of_one_concave_curve_are_equal() -> None:
    """Reward sqrt(KL), one run half as far as the other, reference and end alone: a chord in KL sees a gain."""
    for root, gap in ((True, 0.0), (False, 2**0.5 - 1)):
        near, far = curve([0, 2], [0, 2**0.5], root), curve([0, 4], [0, 2], root)
        found = matched(near, far)
        assert found is not None and found.at_high.mean() == pytest.approx(gap, abs=1e-12)
        assert (found.low, found.high) == (0, pytest.approx(2))
        assert found.over_range.mean() == pytest.approx(0.0 if root else 0.207, abs=1e-3)


def test_a_frozen_window_is_never_left() -> None:
    a, b = curve([0, 1, 4], [0, 1.5, 3]), curve([0, 1, 9], [0, 1, 3])
    inside = matched(a, b, window=(1.0, 4.0))
    assert inside is not None and (inside.low, inside.high) == pytest.approx((1, 4))
    assert inside.over_range.mean() == pytest.approx((0.5 + 1.0) / 2)  # both are straight in sqrt(KL) there
    assert inside.covered == 1
    half = matched(a, b, window=(1.0, 9.0))
    assert half is not None and (half.high, half.covered) == (pytest.approx(4), pytest.approx(0.5))
    assert half.over_range == pytest.approx(inside.over_range)
    assert matched(a, b, window=(4.0, 9.0)) is None


def test_negative_estimates_of_kl_count_as_none() -> None:
    found = matched(curve([-0.1, 1], [0, 1]), curve([0, 1], [0, 0.5]))
    assert found is not None and found.low == 0 and found.at_high.mean() == pytest.approx(0.5)


def test_curves_that_turn_over_are_seen() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (4, 50))
    rising, falling = np.array([0, 0.5, 0.8, 1.0]), np.array([0, 0.8, 1.0, 0.6])
    kl = np.array([0.0, 1, 4, 9])[:, None] * np.ones(5)
    assert turned_over(Frontier(rising[:, None] + noise, kl, True)) is None
    assert turned_over(Frontier(falling[:, None] + noise, kl, True)) == 4.0


def test_band_over_seeds() -> None:
    runs = [curve([0, 1, 4 + s], [0, 1 + 0.1 * s, 2 + 0.1 * s]) for s in range(3)]
    found = band(runs, places=5)
    assert [kl for kl, _ in found] == pytest.approx([0, 0.25, 1, 2.25, 4])
    middle = found[2][1]
    assert middle.value == pytest.approx(1.1) and middle.seeds == 3 and middle.low is not None
    assert band([curve([0, 1], [0, 1]), curve([2, 3], [0, 1])]) == []
