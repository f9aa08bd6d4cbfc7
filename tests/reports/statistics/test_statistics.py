"""Statistics against scipy, statsmodels and values worked out by hand."""

import time

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from reports.schema.base import Estimate
from reports.statistics.association import autocorrelation, varies
from reports.statistics.crossed import hierarchical_difference, hierarchical_means
from reports.statistics.design import DETECTION, minimum_detectable_effect
from reports.statistics.intervals import group_columns, mean_interval, outcome, plain, wilson
from reports.statistics.multiplicity import benjamini_hochberg, corrected, holm
from reports.statistics.paired import mcnemar, seed_interval, seed_permutation, sign_flip, smallest_paired_p

RNG = np.random.default_rng(0)


def test_plain_errors_are_scipys() -> None:
    a = RNG.normal(size=40)
    assert plain(a) == pytest.approx(stats.sem(a))
    assert np.isnan(plain([1.0]))


def test_clustered_error_is_statsmodels_without_its_regression_factor() -> None:
    x, groups = RNG.normal(size=60), np.repeat(np.arange(20), 3)
    fit = sm.OLS(x, np.ones((60, 1))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    # statsmodels multiplies by (n-1)/(n-k) = 1 for an intercept, so the two agree exactly.
    assert mean_interval(x, list(groups)).stderr == pytest.approx(float(fit.bse[0]))


def test_clustered_error_of_single_item_groups_is_the_plain_one() -> None:
    x = RNG.normal(size=30)
    assert mean_interval(x, list(range(30))) == mean_interval(x)
    assert mean_interval(x, ["one"] * 30).stderr is None
    with pytest.raises(ValueError, match="30 items but 2 groups"):
        group_columns(x, ["a", "b"])


def test_mean_interval_is_the_t_interval() -> None:
    x = RNG.normal(size=12)
    expected = stats.t.interval(0.95, 11, x.mean(), stats.sem(x))
    result = mean_interval(x)
    assert (result.low, result.high) == pytest.approx(expected)
    assert mean_interval([]).reason == "no items" and mean_interval([0.5]).reason and wilson(0, 0).value is None


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 2), (37, 64)])
def test_wilson_intervals_are_statsmodels(k: int, n: int) -> None:
    result = wilson(k, n)
    assert (result.low, result.high) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    assert result.low is not None and result.high is not None
    assert 0 <= result.low <= k / n <= result.high <= 1


def test_mcnemar_is_statsmodels_exact() -> None:
    a, b = RNG.integers(0, 2, 80), RNG.integers(0, 2, 80)
    table = [[((a == i) & (b == j)).sum() for j in (0, 1)] for i in (0, 1)]
    assert mcnemar(a, b).p_value == pytest.approx(sm_mcnemar(table, exact=True).pvalue)
    assert mcnemar(a, a).p_value == 1.0


@pytest.mark.parametrize("n", [3, 8, 12])
def test_sign_flip_is_scipys_exact_permutation(n: int) -> None:
    d = RNG.normal(0.4, 1, n)
    expected = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(d).p_value == pytest.approx(expected)
    assert seed_permutation(d).p_value == pytest.approx(expected)


def test_random_sign_flip_agrees_with_the_t_test_and_repeats_itself() -> None:
    d = RNG.normal(0.2, 1, 100)
    first = sign_flip(d)
    assert first == sign_flip(d)
    assert first.p_value == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    assert sign_flip(np.zeros(5)).p_value == 1.0


def test_seed_statistics() -> None:
    d = np.array([0.1, 0.2, 0.15, 0.05, 0.12])
    interval = seed_interval(d, 64)
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 4, d.mean(), stats.sem(d)))
    assert (interval.seeds, interval.n) == (5, 64)
    assert seed_interval([0.9, 0.1], bounds=(0, 1)).low == 0


@pytest.mark.parametrize(("seeds", "least"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_smallest_attainable_p(seeds: int, least: float) -> None:
    assert smallest_paired_p(seeds) == least
    test = seed_permutation(np.arange(1, seeds + 1))
    assert test.p_value == test.smallest_p == least
    assert (test.note is not None and f"S={seeds} cannot reach" in test.note) == (least > 0.05)


def test_undefined_seed_statistics_have_reasons() -> None:
    for result in (seed_interval([]), seed_interval([0.3]), seed_permutation([])):
        assert result.reason


def test_power() -> None:
    assert pytest.approx(2.8016, abs=1e-4) == DETECTION
    assert minimum_detectable_effect(0.01) == pytest.approx(0.028016, abs=1e-6)
    assert minimum_detectable_effect(0.01, degrees=1) == pytest.approx(0.1408, abs=1e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_adjusted_p_values_are_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_what_was_not_tested_keeps_its_place_in_the_family() -> None:
    found = corrected([outcome(p, "t", 9, note="no seed") for p in (0.01, None, 0.04)], "Holm")
    assert [one.value for one in found] == [pytest.approx(0.03), None, pytest.approx(0.08)]
    assert [one.family_size for one in found] == [3, 3, 3] and found[1].reason == "no seed"


def test_autocorrelation_is_statsmodels() -> None:
    x = np.cumsum(RNG.normal(size=100))
    assert autocorrelation(x, 10) == pytest.approx(sm.tsa.acf(x, nlags=10, fft=False)[1:])
    assert (autocorrelation(np.ones(20), 3) == 0).all() and not varies(np.full(5, np.nan))


def test_hierarchical_means_share_items_and_seeds_between_methods() -> None:
    x = RNG.normal(size=(1, 4, 50))
    both = hierarchical_means(np.concatenate([x, x + 0.3]), replicates=200)
    assert both[1] - both[0] == pytest.approx(np.full(200, 0.3))
    assert (hierarchical_means(x, 50, seed=5) == hierarchical_means(x, 50, seed=5)).all()


def test_hierarchical_error_has_both_parts() -> None:
    rng = np.random.default_rng(1)
    seeds, items = rng.normal(0, 0.2, (8, 1)), rng.normal(0, 1, (1, 200))
    result = hierarchical_difference(seeds + items, np.zeros((8, 200)))
    expected = np.sqrt(seeds.var() / 8 + items.var() / 200)
    assert result.stderr == pytest.approx(expected, rel=0.05)
    assert result.note is None


def test_few_seeds_are_labelled_indicative() -> None:
    x = RNG.normal(size=(3, 20))
    assert hierarchical_difference(x, x * 0).note == "indicative: 3 seeds give 10 distinct seed multisets"
    assert hierarchical_difference(x[:1], x[:1]).reason


def test_hierarchical_bootstrap_of_a_large_matrix_takes_seconds() -> None:
    start = time.perf_counter()
    means = hierarchical_means(RNG.normal(size=(8, 5, 1000)), replicates=10_000)
    assert means.shape == (8, 10_000)
    assert time.perf_counter() - start < 20  # about one second on one idle core


def covers(found: Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def test_intervals_cover() -> None:
    """400 repetitions: 95 % intervals must cover about as often (three standard errors are .033)."""
    rng = np.random.default_rng(11)
    hits = {"t": 0, "seeds": 0, "wilson": 0, "clustered": 0}
    for _ in range(400):
        x = rng.normal(0.2, 1, 40)
        hits["t"] += covers(mean_interval(x), 0.2)
        hits["seeds"] += covers(seed_interval(rng.normal(0.2, 1, 5)), 0.2)
        hits["wilson"] += covers(wilson(int(rng.binomial(40, 0.3)), 40), 0.3)
        grouped = 0.2 + np.repeat(rng.normal(size=30), 4) + rng.normal(size=120)
        hits["clustered"] += covers(mean_interval(grouped, list(np.repeat(np.arange(30), 4))), 0.2)
    for name, count in hits.items():
        assert count / 400 >= 0.915, (name, count / 400)


def test_equal_seeds_give_no_interval() -> None:
    result = seed_interval(np.array([-0.01, -0.01]), items=48)
    assert result.value == -0.01
    assert result.low is None and result.high is None and result.stderr is None
    assert result.note is not None and "agree exactly" in result.note
