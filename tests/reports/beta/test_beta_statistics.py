"""The statistics of reports/beta on known values, against oracles, and in small simulations of their size and coverage."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from reports.beta.associations import Against, effective, lag_correlation, unit
from reports.beta.cells import between, binned, cell, fan, fisher_cell, perplexity_quantiles, pooled, simpson, within
from reports.beta.learned import _slope, drift, elasticity, held_out_r2
from reports.beta.null import permutation_null, sigmoid_loss
from reports.schema.beta import Association


def ar(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    from scipy.signal import lfilter

    shocks = rng.normal(size=n)
    shocks[0] /= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], shocks)


def one(x: np.ndarray, y: np.ndarray, **given: np.ndarray) -> Association:
    """`given` is what the partial coefficient `step` holds constant."""
    held = {"step": given, "log_perplexity": {}, "step_delta_length": {}}
    return Against(x, np.arange(float(x.size)), held).row("y", y, False)


def test_cells_say_why_they_are_null() -> None:
    assert cell(float("nan")).reason and cell(1.0).reason and cell(1.0, 0.0, 2.0).reason is None
    assert "too few" in fisher_cell(0.5, 3.9, "pearson").reason
    exact = fisher_cell(1.0, 50, "pearson")
    assert exact.low <= exact.value <= exact.high


def test_coefficients_are_scipys() -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=300), 1)  # ties
    y = np.round(0.5 * x + rng.normal(size=300), 1)
    raw = one(x, y).raw
    assert raw.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-5)
    assert raw.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-5)
    assert raw.kendall.value == pytest.approx(stats.kendalltau(x, y).statistic, rel=1e-5)
    assert raw.xi.value == pytest.approx(stats.chatterjeexi(x, y).statistic, abs=0.05)  # ties fall in random order
    white = one(*rng.normal(size=(2, 80))).raw
    assert white.n_eff is not None and white.n_eff > 40
    line = np.linspace(-1, 1, 400)
    bent = one(line, line**2).raw
    assert bent.xi.value > 0.9 and abs(bent.spearman.value) < 0.05


def test_effective_size_is_the_librarys() -> None:
    rng = np.random.default_rng(1)
    x, y = ar(rng, 400, 0.8), ar(rng, 400, 0.8)
    a, b = unit(x), unit(y)
    assert a is not None and b is not None
    product = sm.tsa.acf(x, nlags=200, fft=True)[1:] * sm.tsa.acf(y, nlags=200, fft=True)[1:]
    stop = int(np.argmax(product <= 0)) if (product <= 0).any() else product.size
    k = np.arange(1, stop + 1)
    assert effective(a, b) == pytest.approx(1 / (1 / 400 + 2 / 400 * np.sum((1 - k / 400) * product[:stop])), rel=1e-6)
    assert 2 <= effective(a, b) < 200


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_partial_is_the_regression_residuals(kind: str) -> None:
    rng = np.random.default_rng(2)
    z, w = rng.normal(size=(2, 250))
    x, y = z + rng.normal(size=250), z - w + rng.normal(size=250)
    seen = getattr(one(x, y, z=z, w=w).partial.step, kind).value
    columns = [stats.rankdata(c) for c in (x, y, z, w)] if kind == "spearman" else [x, y, z, w]
    design = sm.add_constant(np.column_stack(columns[2:]))
    left = [sm.OLS(c, design).fit().resid for c in columns[:2]]
    assert seen == pytest.approx(np.corrcoef(*left)[0, 1], rel=1e-5)


def test_partial_is_null_where_nothing_is_left() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=100)
    row = one(2 * z + 1, rng.normal(size=100), z=z)
    assert row.partial.step.pearson.value is None
    assert "nothing varies" in row.partial.step.spearman.reason
    constant = one(z, np.ones(100))
    assert constant.raw.pearson.value is None and constant.reason


def test_rows_without_a_number_are_left_out() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 80))
    y[:20] = np.nan
    row = one(x, y, z=x**2)
    assert row.n == 60
    assert row.raw.pearson.value == pytest.approx(np.corrcoef(x[20:], y[20:])[0, 1], rel=1e-5)


def test_size_of_intervals_under_autocorrelation() -> None:
    """Independent AR(1), phi .9: the naive test rejects about half the time, these intervals at most 12 %."""
    rng = np.random.default_rng(5)
    naive = honest = 0
    for _ in range(300):
        x, y = ar(rng, 200, 0.9), ar(rng, 200, 0.9)
        naive += stats.pearsonr(x, y).pvalue < 0.05
        found = one(x, y).raw.pearson
        honest += found.low is not None and (found.low > 0 or found.high < 0)
    assert naive / 300 > 0.35
    assert honest / 300 <= 0.12


@pytest.mark.parametrize("kind", ["pearson", "spearman", "kendall"])
def test_coverage_of_partial_and_raw_intervals(kind: str) -> None:
    """Bivariate normal, rho .5 given a common cause: 95 % intervals cover in 91 to 99 % of 300 samples."""
    rng = np.random.default_rng(6)
    true = {"pearson": 0.5, "spearman": 6 / np.pi * np.arcsin(0.25), "kendall": 2 / np.pi * np.arcsin(0.5)}[kind]
    raw = partial = 0
    for _ in range(300):
        z, x, e = rng.normal(size=(3, 150))
        y = 0.5 * x + np.sqrt(0.75) * e
        found = getattr(one(x, y).raw, kind)
        raw += found.low <= true <= found.high
        if kind == "pearson":
            held = one(x + z, y + z, z=z).partial.step.pearson
            partial += held.low <= true <= held.high
    assert 0.91 <= raw / 300 <= 0.99
    if kind == "pearson":
        assert 0.91 <= partial / 300 <= 0.99


def test_lags_find_who_moves_first() -> None:
    rng = np.random.default_rng(7)
    beta = np.cumsum(rng.normal(size=200))
    other = np.roll(beta, 3) + 0.1 * rng.normal(size=200)  # other(t + 3) repeats beta(t)
    found = lag_correlation(beta[5:], other[5:])
    at = found.lags.index(3)
    assert max(found.values, key=abs) == found.values[at] > found.band[at]
    x, y = np.diff(beta[5:]), np.diff(other[5:])
    assert found.values[at] == pytest.approx(np.corrcoef(x[:-3], y[3:])[0, 1], abs=0.02)
    assert lag_correlation(beta[:10], other[:10]).reason
    assert lag_correlation(np.ones(50), other[:50]).lags == []


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_size_of_lag_bands(memory: float) -> None:
    """Independent series: a lag is outside its own band in at most 8 %."""
    rng = np.random.default_rng(8)
    one_lag = []
    for _ in range(300):
        found = lag_correlation(ar(rng, 150, memory), ar(rng, 150, memory))
        one_lag.append(np.mean(np.abs(found.values) > np.array(found.band)))
    assert 0.02 <= np.mean(one_lag) <= 0.08


def test_null_is_the_algebra() -> None:
    """Beta that tells nothing about delta still goes with the loss, the more the larger the margin."""
    rng = np.random.default_rng(9)
    n, means = 4000, []
    for mean in (2.0, 5.0):
        beta, delta = rng.lognormal(-2.3, 0.3, n), rng.normal(mean, 2.0, n)
        null = permutation_null(beta, delta, np.repeat(np.arange(n // 8), 8))
        direct = stats.spearmanr(beta, sigmoid_loss(beta, delta)).statistic
        assert null.mean == pytest.approx(direct, abs=0.06) and null.n <= 1000
        means.append(null.mean)
    assert means[1] < means[0] < -0.05


def test_size_of_the_null_and_its_power() -> None:
    rng = np.random.default_rng(10)
    false = 0
    for seed in range(200):
        beta, delta = rng.lognormal(-2.3, 0.3, 160), rng.normal(2, 2, 160)
        false += permutation_null(beta, delta, np.repeat(np.arange(20), 8), draws=59, seed=seed).p_value <= 0.05
    assert false / 200 <= 0.09
    linked = permutation_null(np.exp(0.3 * delta - 2.3), delta, np.repeat(np.arange(20), 8), draws=59)
    assert linked.p_value == pytest.approx(1 / 60)
    alone = permutation_null(beta, delta, np.arange(160), draws=19)
    assert "neighbouring" in alone.method and alone.low < alone.high
    assert permutation_null(beta, np.ones(160), np.arange(160)).reason
    assert sigmoid_loss(np.ones(3), np.array([0.0, 1e4, -1e4])) == pytest.approx([np.log(2), 0, 1e4])


def test_elasticity_is_the_clustered_regression() -> None:
    rng = np.random.default_rng(11)
    example = np.repeat(np.arange(60), 3)
    log_ppl = np.exp(rng.normal(1, 0.2, 60))[example] + 0.01 * rng.normal(size=180)
    beta = 0.05 * log_ppl**0.7 * np.exp(0.2 * rng.normal(size=60)[example] + 0.1 * rng.normal(size=180))
    found = elasticity(beta, log_ppl, example)
    oracle = sm.OLS(np.log(beta), sm.add_constant(np.log(log_ppl))).fit(
        cov_type="cluster", cov_kwds={"groups": example, "use_correction": True}, use_t=True
    )
    assert found.value == pytest.approx(oracle.params[1], rel=1e-5)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.conf_int()[1]), rel=1e-4)
    assert elasticity(0.1 * log_ppl, log_ppl, example).value == pytest.approx(1)
    assert elasticity(0.1 / log_ppl, log_ppl, example).value == pytest.approx(-1)
    assert elasticity(beta[:5], log_ppl[:5], example[:5]).value is None


def test_held_out_share() -> None:
    rng = np.random.default_rng(12)
    x = rng.normal(size=(400, 2))
    groups = np.arange(400) // 2
    assert held_out_r2(x @ [1.0, 2.0], x, groups).value == pytest.approx(1, abs=1e-5)
    assert held_out_r2(rng.normal(size=400), x, groups).value < 0.02
    half = held_out_r2(x[:, 0] + rng.normal(size=400), x, groups).value
    assert half == pytest.approx(0.5, abs=0.08)
    assert "too few" in held_out_r2(np.arange(9.0), np.ones((9, 3)), np.arange(9)).reason


def test_drift_and_its_interval() -> None:
    steps = np.repeat(np.arange(1.0, 101), 4)
    beta = 0.1 * np.exp(0.01 * steps) * (1 + 0.1 * (np.tile(np.arange(40), 10) % 7))
    found = drift(beta, steps)
    assert found.slope.value == pytest.approx(1.0, abs=0.05)
    assert found.last.level - found.first.level == pytest.approx(0.9, abs=0.1)
    assert drift(beta[:4], steps[:4]).reason
    rng = np.random.default_rng(13)
    clock, covered = np.arange(1.0, 201), 0
    for _ in range(300):
        s = _slope(clock, 0.02 * clock + ar(rng, 200, 0.6))
        covered += s.low <= 2.0 <= s.high
    assert 0.90 <= covered / 300 <= 0.99


def test_runs_are_the_unit() -> None:
    r = [0.1, 0.2, 0.3]
    inside = within(r)
    z = np.arctanh(r)
    half = stats.t.ppf(0.975, 2) * stats.sem(z)
    assert (inside.low, inside.high) == pytest.approx((np.tanh(z.mean() - half), np.tanh(z.mean() + half)), rel=1e-4)
    assert within([0.3]).low is None and within([None]).reason == "no run has this correlation"
    assert between([1, 2, 3, 4], [4, 3, 2, 1]).value == pytest.approx(-1)
    assert between([1, 2, None], [1, 2, 3]).value is None
    x = np.arange(10.0)
    assert pooled([(x, x), (x, x)]).value == pytest.approx(1) and pooled([]).reason


@pytest.mark.parametrize(("world", "low", "high"), [("none", 0.0, 0.04), ("reversal", 0.8, 1.0)])
def test_simpson_flag(world: str, low: float, high: float) -> None:
    """Six runs of 100 rows: no false alarms where nothing goes with anything, the reversal found where it is."""
    rng = np.random.default_rng(14)
    flags = []
    for _ in range(150):
        level = rng.normal(0, 2.0, 6) if world == "reversal" else np.zeros(6)
        parts = []
        for shift in level:
            x = rng.normal(size=100)
            slope = -0.5 if world == "reversal" else 0.0
            parts.append((x + shift, slope * x + 1.5 * shift + rng.normal(size=100)))
        inside = within([float(stats.spearmanr(a, b).statistic) for a, b in parts])
        flags.append(simpson(inside, pooled(parts), 6).flag)
    assert low <= np.mean(flags) <= high
    assert simpson(cell(0.1), cell(0.1), 1).flag is None


def test_curves_hold_every_row() -> None:
    rng = np.random.default_rng(15)
    parts = [(np.repeat(np.arange(50.0), 4), rng.random(200)) for _ in range(3)]
    rows = fan(parts)
    assert sum(r.n for r in rows) == 600 and all(r.q05 <= r.q50 <= r.q95 for r in rows)
    points = binned([(b, 2 * b) for _, b in parts])
    assert sum(p.n for p in points) == 600
    assert all(p.mean == pytest.approx(2 * p.x, rel=0.05) and p.low < p.high for p in points)
    assert binned([(np.full(5, np.nan), np.ones(5))]) == [] and fan([]) == []
    table = perplexity_quantiles(
        {"log_prompt_perplexity": np.r_[np.nan, np.arange(99.0)], "delta": np.r_[1, np.arange(99.0)]}
    )
    assert [r.quantile for r in table] == [1, 2, 3, 4, 5] and sum(r.n for r in table) == 99
    assert table[-1].accuracy == 1 and table[0].dynamic_beta is None
    assert perplexity_quantiles({}) == []
    assert [r.n for r in perplexity_quantiles({"log_prompt_perplexity": np.full(9, 2.0)})] == [9]


def test_the_null_ranks_ties_as_the_correlation_beside_it_does() -> None:
    """Betas and margins of few values: ranks by order of position would depend on the order of the rows."""
    rng = np.random.default_rng(3)
    beta, delta = rng.choice([0.05, 0.1, 0.2], 160), rng.choice([-1.0, 0.0, 1.0], 160)
    observed = permutation_null(beta, delta, np.repeat(np.arange(20), 8), draws=19).observed
    expected = stats.spearmanr(beta, sigmoid_loss(beta, delta)).statistic
    assert observed == pytest.approx(expected, abs=1e-12)
