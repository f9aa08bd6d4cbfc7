"""dynamic_beta against loss: the number asked for, its null, and what cannot be computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reports.correlation import FIXED as FIXED_REASON
from reports.correlation import permutation_null, perplexity_table, run_correlation, sigmoid_loss
from reports.records import load_run
from tests.reports.builder import FIXED, FOODPO, HEAD, example_rows, write_run


def independent(n: int, mean_delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.lognormal(-2.3, 0.3, n), rng.normal(mean_delta, 2.0, n), np.repeat(np.arange(n // 8), 8)


@pytest.mark.parametrize("mean_delta", [2.0, 5.0])
def test_null_shows_the_algebra(mean_delta: float) -> None:
    beta, delta, steps = independent(4000, mean_delta)
    null = permutation_null(beta, delta, steps, draws=100)
    assert null["mean"] < -0.05  # beta tells nothing about delta, and still goes with the loss
    assert null["low"] - 0.01 <= null["observed"] <= null["high"] + 0.01


def test_algebra_grows_with_the_margin() -> None:
    small, large = (permutation_null(*independent(4000, d), draws=20)["mean"] for d in (2.0, 5.0))
    assert large < small < 0


def test_null_notices_a_real_link_and_repeats_itself() -> None:
    beta, delta, steps = independent(800, 1.0)
    order = np.argsort(delta.reshape(-1, 8), axis=1)
    linked = np.take_along_axis(np.sort(beta.reshape(-1, 8), axis=1), np.argsort(order, axis=1), axis=1).ravel()
    null = permutation_null(linked, delta, steps, draws=100)
    assert null["p_value"] == pytest.approx(1 / 101)
    assert null == permutation_null(linked, delta, steps, draws=100)


def test_single_pair_steps_exchange_beta_with_neighbours() -> None:
    beta, delta, _ = independent(400, 1.0)
    null = permutation_null(beta, delta, np.arange(400), draws=20)
    assert "neighbouring" in null["method"] and null["low"] < null["high"]


def test_large_runs_are_thinned() -> None:
    beta, delta, steps = independent(40_000, 1.0)
    assert permutation_null(beta, delta, steps, draws=3)["n"] <= 8_000


def test_sigmoid_loss_does_not_overflow() -> None:
    assert sigmoid_loss(np.array([1.0, 1.0, 1.0]), np.array([0.0, 1e4, -1e4])) == pytest.approx([np.log(2), 0, 1e4])


def test_fixed_beta_has_no_correlation(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FIXED, 0)
    result = run_correlation(load_run(tmp_path / "runs" / run_id))
    assert result["value"] is None and result["reason"] == FIXED_REASON
    assert result["perplexity_quantiles"]


def test_dynamic_beta_is_set_against_beta_free_quantities(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0, steps=30)
    result = run_correlation(load_run(tmp_path / "runs" / run_id))
    rows = {r["against"]: r for r in result["examples"]}
    assert set(rows) == {"loss", "delta", "loss_at_beta0", "log_prompt_perplexity"}
    assert not rows["loss"]["beta_free"] and rows["delta"]["beta_free"]
    assert rows["log_prompt_perplexity"]["spearman"]["value"] == pytest.approx(1, abs=1e-6)
    assert result["value"] == rows["loss"]["spearman"]["value"] < 0
    assert "algebra" in result["warning"]


def test_collapse_is_reported(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, HEAD, 0, steps=5)
    collapse = run_correlation(load_run(tmp_path / "runs" / run_id))["collapse"]
    assert collapse["step"] == 5 and "variance" in collapse["reason"]


def test_run_without_examples_gives_a_reason(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, FOODPO, 0)
    (tmp_path / "runs" / run_id / "example_metrics.parquet").unlink()
    result = run_correlation(load_run(tmp_path / "runs" / run_id))
    assert result["value"] is None and "no example metrics" in result["reason"]
    assert result["steps"]


def test_quantile_table_counts_every_row_with_a_perplexity() -> None:
    rows = example_rows(np.random.default_rng(0), "r", FOODPO, 20)
    rows.loc[:4, "log_prompt_perplexity"] = np.nan
    table = perplexity_table(rows)
    assert sum(r["n"] for r in table) == len(rows) - 5
    betas = [r["dynamic_beta"] for r in table]
    assert betas == sorted(betas)
    assert perplexity_table(rows[:3]) == []
    same = rows.assign(log_prompt_perplexity=2.0)
    assert [r["n"] for r in perplexity_table(same)] == [len(rows)]
