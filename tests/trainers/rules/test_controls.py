"""Controls: what they keep of the parent run, and what they cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.trainers.helpers import logged, make_pairs, rows_of, trained
from trainers.rules import catalogue
from trainers.rules.base import RuleBatch
from trainers.rules.controls import ParentRun, ParentRunError


@pytest.fixture(scope="module")
def parent(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tiny_model, tmp_path_factory.mktemp("parent"), "foodpo", training={"max_steps": 6})


def control(tiny_model: Path, out: Path, rule: str, parent: Any, **changes: Any) -> pd.DataFrame:
    job = trained(tiny_model, out, rule, parent_dir=parent.run_dir, training={"max_steps": 6}, **changes)
    rows = rows_of(job)
    for record in logged(job):
        assert rows[rows.step == record["step"]].loss.mean() == pytest.approx(record["loss"], rel=1e-5)
    return rows.sort_values(["step", "example_id"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def parent_rows(parent: Any) -> pd.DataFrame:
    return rows_of(parent).sort_values(["step", "example_id"]).reset_index(drop=True)


def test_matched_mean(tiny_model: Path, tmp_path: Path, parent: Any, parent_rows: pd.DataFrame) -> None:
    rows = control(tiny_model, tmp_path, "matched_mean", parent)
    assert rows.dynamic_beta.to_numpy() == pytest.approx(parent_rows.dynamic_beta.mean())
    result = json.loads((tmp_path / "train_result.json").read_text())
    assert result["parent_mean_beta"] == pytest.approx(parent_rows.dynamic_beta.mean(), rel=1e-12)


def test_permuted(tiny_model: Path, tmp_path: Path, parent: Any, parent_rows: pd.DataFrame) -> None:
    rows = control(tiny_model, tmp_path, "permuted", parent, params={"across": "step"})
    assert rows[["step", "example_id"]].equals(parent_rows[["step", "example_id"]])
    for step, group in rows.groupby("step"):
        theirs = parent_rows[parent_rows.step == step].dynamic_beta
        assert sorted(group.dynamic_beta) == pytest.approx(sorted(theirs), rel=1e-6)
    moved = ~np.isclose(rows.dynamic_beta, parent_rows.dynamic_beta)
    assert moved.mean() > 0.3


def test_weight_only_and_saturation_only(
    tiny_model: Path, tmp_path: Path, parent: Any, parent_rows: pd.DataFrame
) -> None:
    mean = parent_rows.dynamic_beta.mean()
    weighted = control(tiny_model, tmp_path / "w", "weight_only", parent)
    assert weighted.dynamic_beta.to_numpy() == pytest.approx(mean)
    assert weighted.weight.to_numpy() == pytest.approx(parent_rows.dynamic_beta / mean, rel=1e-6)
    saturating = control(tiny_model, tmp_path / "s", "saturation_only", parent)
    assert saturating.dynamic_beta.to_numpy() == pytest.approx(parent_rows.dynamic_beta, rel=1e-6)
    assert saturating.weight.to_numpy() == pytest.approx(mean / parent_rows.dynamic_beta, rel=1e-6)
    # at the first step delta is 0: weighting pulls like the parent, saturation alone pulls alike everywhere
    first = parent_rows.step == 1
    assert weighted.gradient_weight[first].to_numpy() == pytest.approx(parent_rows.gradient_weight[first], rel=1e-3)
    assert saturating.gradient_weight[first].to_numpy() == pytest.approx(mean / 2, rel=1e-3)


def test_inverse_has_foodpos_mean_and_turns_it_round(
    tiny_model: Path, tmp_path: Path, parent_rows: pd.DataFrame
) -> None:
    rule = catalogue.build("inverse", {"pref_beta_scale": 0.7, "pref_beta": 0.2}, 8)
    log_ppl = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    rule.initialise(log_ppl)
    beta = rule.beta(RuleBatch(log_ppl, torch.ones(4).bool(), None, torch.arange(4)))
    assert float(beta.mean()) == pytest.approx(0.7 * 0.2 * 1.875)
    assert (beta * log_ppl).tolist() == pytest.approx([float(beta[0]) * 0.5] * 4)
    rows = rows_of(trained(tiny_model, tmp_path, "inverse", training={"max_steps": 6}))
    assert np.corrcoef(rows.dynamic_beta, rows.log_prompt_perplexity)[0, 1] < -0.9
    assert rows.dynamic_beta.mean() == pytest.approx(parent_rows.dynamic_beta.mean(), rel=0.05)


def test_a_derangement_gives_every_example_anothers_betas() -> None:
    """Two epochs and a part of a third; every pair's beta is its own, so what is left of the link is a correlation."""
    rng, n = np.random.default_rng(1), 200
    own = rng.random(n)
    index = np.concatenate([rng.permutation(n), rng.permutation(n), rng.permutation(n)[:50]])
    run = ParentRun(np.arange(len(index)) // 4 + 1, index, own[index])
    dealt = run.deranged(seed=5)
    assert (dealt.beta != run.beta).all()
    for part in (slice(0, n), slice(n, 2 * n), slice(2 * n, None)):
        assert sorted(dealt.beta[part]) == sorted(run.beta[part])
    assert abs(np.corrcoef(dealt.beta, run.beta)[0, 1]) < 0.15
    assert np.corrcoef(run.permuted(5, 64).beta, run.beta)[0, 1] > 0.15  # what shuffling within steps of four leaves
    assert dict(zip(index[:n], dealt.beta[:n], strict=True)) == dict(
        zip(index[n : 2 * n], dealt.beta[n : 2 * n], strict=True)
    )


def test_inverse_follows_the_parents_schedule_and_shape() -> None:
    log_ppl = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    schedule = {"scale_schedule": "linear", "pref_beta_scale_end": 1.5, "power": 2.0}
    for params in (schedule, {"rescale": "mean", "power": 2.5}):
        for progress in (0.0, 0.5):
            means = []
            for name in ("foodpo", "inverse"):
                rule = catalogue.build(name, params, 8)
                rule.initialise(log_ppl)
                beta = rule.beta(RuleBatch(log_ppl, torch.ones(4).bool(), None, torch.arange(4), progress=progress))
                means.append(float(beta.mean()))
                sign = 1 if name == "foodpo" else -1
                assert (beta.log() - sign * params["power"] * log_ppl.log()).std() < 1e-9
            assert means[0] == pytest.approx(means[1])
            assert "rescale" not in params or means[0] == pytest.approx(0.1)


def test_one_pair_a_step_is_shuffled_over_a_window() -> None:
    rng = np.random.default_rng(0)
    run = ParentRun(np.arange(1, 201), rng.integers(0, 50, 200), rng.random(200))
    shuffled = run.permuted(seed=3, window=64)
    for start in range(0, 200, 64):
        assert sorted(run.beta[start : start + 64]) == sorted(shuffled.beta[start : start + 64])
    assert (shuffled.beta != run.beta).mean() > 0.9
    assert np.array_equal(run.permuted(3, 64).beta, shuffled.beta)
    assert not np.array_equal(run.permuted(4, 64).beta, shuffled.beta)


def test_a_control_without_its_parents_rows_says_so(tiny_model: Path, tmp_path: Path, parent: Any) -> None:
    given: dict[str, Any]
    for words, rule, given in (
        ("did not finish", "matched_mean", {"parent_dir": tmp_path / "nothing"}),
        ("batch size and number of steps", "permuted", {"parent_dir": parent.run_dir, "seed": 5}),
        ("not in the training data", "permuted", {"parent_dir": parent.run_dir, "pairs": make_pairs(12)[:11]}),
    ):
        with pytest.raises(ParentRunError, match=words):
            trained(tiny_model, tmp_path / words, rule, **given)
