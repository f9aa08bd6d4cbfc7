"""Methods over several benchmarks: known values, oracles, coverage, and what the summary and the panel make of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.compare.aggregate import aggregate_summary
from reports.panels.aggregate import PANEL
from reports.panels.style import looks, style
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.schema.metrics import ArmScore, Metric, PolicyScore
from reports.statistics.aggregates import (
    improvement_interval,
    interquartile_mean,
    iqm_interval,
    performance_profile,
    probability_of_improvement,
)


def test_known_values() -> None:
    assert interquartile_mean([[0.0, 1.0], [2.0, 9.0]]) == 1.5
    assert interquartile_mean([[0.3]]) == pytest.approx(0.3)
    assert probability_of_improvement([[1.0, 0.0]], [[0.0, 0.0], [2.0, 0.0]]) == pytest.approx((0.5 + 0.5) / 2)
    assert performance_profile([[0.1, 0.5], [0.5, 0.9]], [0.0, 0.5, 0.9]).tolist() == [1.0, 0.25, 0.0]
    for bad in ([], [1.0], [[np.nan]]):
        with pytest.raises(ValueError, match="finite scores of"):
            interquartile_mean(bad)
    with pytest.raises(ValueError, match="the same of both"):
        probability_of_improvement([[1.0]], [[1.0, 2.0]])


def test_against_scipy() -> None:
    rng = np.random.default_rng(0)
    for runs, benchmarks in ((5, 3), (7, 2), (1, 4)):
        x, y = rng.normal(size=(runs, benchmarks)).round(1), rng.normal(size=(6, benchmarks)).round(1)
        assert interquartile_mean(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=None))
        u = [stats.mannwhitneyu(x[:, k], y[:, k]).statistic / (runs * 6) for k in range(benchmarks)]
        assert probability_of_improvement(x, y) == pytest.approx(np.mean(u))


def test_intervals_over_runs_cover() -> None:
    """Scores on the benchmarks of one run go together, so that drawing benchmarks apart would be far too narrow."""
    rng = np.random.default_rng(1)

    def runs(level: float) -> np.ndarray:
        return level + 0.05 * rng.normal(size=(15, 1)) + 0.02 * rng.normal(size=(15, 4))

    rounds, mean, chance = 150, 0, 0
    truth = float(stats.norm.cdf(0.04 / np.sqrt(2 * (0.05**2 + 0.02**2))))
    for _ in range(rounds):
        a, b = runs(0.54), runs(0.5)
        found, better = iqm_interval(a), improvement_interval(a, b)
        assert found.low is not None and found.high is not None and better.low is not None and better.high is not None
        mean += found.low <= 0.54 <= found.high
        chance += better.low <= truth <= better.high
    assert mean / rounds >= 0.86 and chance / rounds >= 0.86  # 15 runs: a bootstrap over them is known to be narrow
    alone = iqm_interval([[0.1, 0.2]])
    assert alone.low is None and "one run" in str(alone.as_dict()["reason"])
    assert "indicative: 3 runs" in str(iqm_interval(runs(0.5)[:3]).note)


def entry(benchmark: str, scores: dict[str, list[float]], higher: bool = True, primary: bool = True) -> Metric:
    """The fields of a metric that the aggregate reads."""
    policies = {
        label: [PolicyScore.model_construct(run_id=f"{label}-{i}", value=v) for i, v in enumerate(values)]
        for label, values in scores.items()
    }
    methods = [ArmScore.model_construct(label=label, policies=found) for label, found in policies.items()]
    kinds = {"benchmark_primary": primary, "higher_is_better": higher}
    return Metric.model_construct(benchmark=benchmark, metric="m", methods=methods, **kinds)


def test_only_comparable_benchmarks_and_whole_runs_count() -> None:
    metrics = [
        entry("up", {"fixed": [0.5, 0.6], "foodpo": [0.7, 0.8, 0.9]}),
        entry("down", {"fixed": [0.5, 0.4], "foodpo": [0.3, 0.2]}, higher=False),
        entry("nats", {"fixed": [3.0], "foodpo": [2.0]}),
        entry("nothing", {"fixed": [], "foodpo": []}),
        entry("second", {"fixed": [0.0], "foodpo": [0.0]}, primary=False),
    ]
    found = aggregate_summary(metrics, "fixed")
    assert found.benchmarks == ["up/m", "down/m"] and found.reason is None
    reasons = {"nats/m": "its scores are not between 0 and 1", "nothing/m": "no run was scored on it"}
    assert {row.benchmark: row.reason for row in found.left_out} == reasons
    fixed, foodpo = found.methods
    assert (fixed.runs, foodpo.runs) == (2, 2)  # foodpo's third run has no score on `down`
    assert fixed.iqm.value == pytest.approx(0.55) and fixed.improvement is None
    assert fixed.reason == "the baseline itself" and foodpo.reason is None
    assert foodpo.improvement is not None and foodpo.improvement.value == 1.0
    assert foodpo.profile[0].plain() == {"above": 0.0, "share": 1.0}
    assert str(aggregate_summary(metrics[:1], "fixed").reason).startswith("1 benchmark(s)")
    rows = PANEL.rows(MatrixData, Summary.model_construct(aggregate=found))  # type: ignore[arg-type]
    assert all(set(row) <= set(PANEL.columns) for row in rows)
    with style():
        figure = PANEL.draw(rows, looks(["fixed", "foodpo"], "fixed"))
    assert [axes.get_title() for axes in figure.axes] == [
        "interquartile mean", "chance to beat a baseline run", "performance profile"
    ]  # fmt: skip
