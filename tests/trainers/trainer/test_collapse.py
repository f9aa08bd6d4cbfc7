"""Against collapse: the anchor, a start at pref_beta, and a detector that names each kind of collapse and no other."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.helpers import logged, make_pairs, trained
from trainers.rules import catalogue
from trainers.rules.base import RuleBatch
from trainers.rules.learned import inverse_softplus
from trainers.trainer.collapse import CollapseDetector
from trainers.trainer.recording import NUMERIC_COLUMNS

SPREAD = np.linspace(-1.0, 1.0, 8)


def make_rows(beta: Any, delta: float = 0.0) -> np.ndarray:
    beta = np.broadcast_to(np.asarray(beta, dtype=float), (8,))
    rows = np.zeros((len(beta), len(NUMERIC_COLUMNS)))
    rows[:, NUMERIC_COLUMNS.index("dynamic_beta")] = beta
    rows[:, NUMERIC_COLUMNS.index("delta")] = delta + 0.1 * SPREAD
    return rows


@pytest.fixture(params=["beta_head", "learnable"])
def detector(request: pytest.FixtureRequest) -> CollapseDetector:
    """Of a rule with pref_beta 0.1 and bounds 0.01 and 1."""
    return CollapseDetector(catalogue.build(request.param, {"pref_beta": 0.1}, 8))


@pytest.mark.parametrize("bound", [0.01, 1.0])
def test_betas_at_a_bound(detector: CollapseDetector, bound: float) -> None:
    assert detector.update(make_rows(0.1 * (1 + 0.2 * SPREAD)), 1) is None
    four, five = np.full(8, 0.1), np.full(8, 0.1)
    four[:4], five[:5] = bound, bound
    assert detector.update(make_rows(four, 1.0), 2) is None  # half is not more than half
    reason = detector.update(make_rows(five, 1.0), 3)
    assert reason is not None and "sit at a bound" in reason and "62%" in reason


def test_bounds_survive_float32(detector: CollapseDetector) -> None:
    """Betas are computed in float32 and recorded in float64; a bound is recognised all the same."""
    for bound in (detector.rule.low, detector.rule.high):
        reason = detector.update(make_rows(float(np.float32(bound))), 1)
        assert reason is not None and "100%" in reason


def test_variance_gone(detector: CollapseDetector) -> None:
    assert detector.update(make_rows(0.1 * (1 + 0.2 * SPREAD)), 1) is None
    assert detector.update(make_rows(0.1 * (1 + 0.01 * SPREAD), 1.0), 2) is None
    reason = detector.update(make_rows(0.1 * (1 + 0.001 * SPREAD), 1.0), 3)
    assert reason is not None and "spread of beta fell" in reason


def test_two_prompts_alike_are_not_a_variance_gone(detector: CollapseDetector) -> None:
    pairs = [(0.08, 0.12), (0.1, 0.1), (0.09, 0.11), (0.1, 0.1), (0.1, 0.1)]
    for step, betas in enumerate(pairs, start=1):
        assert detector.update(make_rows(np.repeat(betas, 4), step)[[0, -1]], step) is None
    reasons = [detector.update(make_rows(0.1, 6.0)[:2], 6) for _ in range(3)]
    assert reasons[0] is None and reasons[2] is not None and "spread of beta fell" in reasons[2]


@pytest.mark.parametrize("ratio", [0.3, 3.5])
def test_drift_without_margin(detector: CollapseDetector, ratio: float) -> None:
    assert detector.update(make_rows(0.1 * (1 + 0.2 * SPREAD)), 1) is None
    drifted = ratio * 0.1 * (1 + 0.2 * SPREAD)
    assert detector.update(make_rows(drifted, 0.5), 2) is None  # the margin grew as well
    reason = detector.update(make_rows(drifted, -0.1), 3)
    assert reason is not None and f"{ratio:.2g} times pref_beta without a larger margin" in reason


@pytest.mark.parametrize("ratio", [0.09, 11.0])
def test_beta_ran_away(ratio: float) -> None:
    """With wide bounds, and a margin that grows: nothing else would show it."""
    params = {"pref_beta": 0.1, "beta_min_ratio": 1e-3, "beta_max_ratio": 1e3}
    detector = CollapseDetector(catalogue.build("beta_head", params, 8))
    assert detector.update(make_rows(0.1 * (1 + 0.2 * SPREAD)), 1) is None
    nearly = 0.1 if ratio < 1 else 10
    assert (
        detector.update(make_rows(1.01 ** (1 if ratio < 1 else -1) * nearly * 0.1 * (1 + 0.2 * SPREAD), 5.0), 2) is None
    )
    reason = detector.update(make_rows(ratio * 0.1 * (1 + 0.2 * SPREAD), 20.0), 3)
    assert reason is not None and f"ran away: its mean is {ratio:.2g} times pref_beta" in reason


def test_silent_on_a_healthy_run(detector: CollapseDetector) -> None:
    for step in range(1, 50):
        beta = 0.1 * (1 + 0.01 * step) * (1 + 0.2 * SPREAD * (1 + 0.5 * np.cos(step)))
        assert detector.update(make_rows(beta, 0.05 * step), step) is None


def test_a_head_that_starts_without_spread_is_not_a_collapse(detector: CollapseDetector) -> None:
    for step in range(1, 5):
        assert detector.update(make_rows(0.1), step) is None


@pytest.mark.parametrize("rule", ["fixed", "foodpo"])
def test_rules_without_parameters_never_collapse(rule: str) -> None:
    detector = CollapseDetector(catalogue.build(rule, {}, 8))
    for step, beta in enumerate((0.1 * (1 + 0.2 * SPREAD), 0.1, 0.0, 9.0), start=1):
        assert detector.update(make_rows(beta, -1.0), step) is None


def history(model: Path, out: Path, rule: str, **params: Any) -> list[dict[str, Any]]:
    return logged(trained(model, out, rule, params={"pref_beta": 0.1, **params}, training={"max_steps": 12}))


@pytest.mark.parametrize("rule", ["beta_head", "learnable"])
def test_collapse_shows_in_the_log_of_a_free_beta_and_not_with_the_defaults(
    tiny_model: Path, tmp_path: Path, rule: str
) -> None:
    free = history(tiny_model, tmp_path / "free", rule, anchor=0, head_learning_rate=10.0)
    reasons = [record["beta_collapse"] for record in free if "beta_collapse" in record]
    assert any("sit at a bound" in reason for reason in reasons)
    assert all(0.01 - 1e-6 <= record["dynamic_beta"] <= 1 + 1e-6 for record in free)
    held = history(tiny_model, tmp_path / "held", rule)
    assert len(held) == 12 and not any("beta_collapse" in record for record in held)


# -- the anchor and the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1e-4, 200.0])
def test_anchor_pulls_beta_back_from_outside_the_bounds(start: float) -> None:
    rule = catalogue.build("beta_head", {"pref_beta": 0.1}, 8)
    torch.nn.init.constant_(rule.value.bias, inverse_softplus(0.1 * start))
    optimiser = torch.optim.Adam(rule.parameters(), lr=0.3)
    batch = RuleBatch(torch.ones(2), torch.ones(2).bool(), torch.randn(2, 8), torch.arange(2))
    rule.clamp(rule.beta(batch)).sum().backward()
    assert not rule.value.bias.grad.any()  # the bound itself lets no gradient through
    for _ in range(400):
        optimiser.zero_grad()
        rule.penalty(rule.beta(batch)).backward()
        optimiser.step()
    assert rule.beta(batch).tolist() == pytest.approx([0.1] * 2, rel=0.05)
    assert not bool(rule.at_bound(rule.clamp(rule.beta(batch))).any())


@pytest.mark.parametrize("name", ["beta_head", "learnable"])
def test_anchor_zero_has_no_penalty(name: str) -> None:
    assert catalogue.build(name, {"anchor": 0}, 8).penalty(torch.tensor([5.0])) is None


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("rule", ["beta_head", "learnable"])
def test_training_starts_at_pref_beta(tiny_model: Path, tmp_path: Path, rule: str, bf16: bool) -> None:
    """Also under bf16 autocast, the default on GPUs: rules compute in float32."""
    training = {"max_steps": 1, "per_device_train_batch_size": 8, "bf16": bf16}
    job = trained(tiny_model, tmp_path, rule, training=training, pairs=make_pairs(8))
    # learnable scales by the perplexity, which the reference and the policy both compute in bfloat16
    assert logged(job)[0]["dynamic_beta"] == pytest.approx(0.1, rel=1e-3 if bf16 and rule == "learnable" else 1e-5)


@pytest.mark.parametrize("pref_beta", [0.1, 0.3])
def test_bounds_are_recognised_in_bf16_training(tiny_model: Path, tmp_path: Path, pref_beta: float) -> None:
    """Betas stay float32 under autocast: rounded to bfloat16, bounds of 0.03 and 3 would not be recognised."""
    job = trained(
        tiny_model,
        tmp_path,
        "beta_head",
        params={"pref_beta": pref_beta, "anchor": 0, "head_learning_rate": 100.0},
        training={"max_steps": 8, "bf16": True},
    )
    outside = [
        record
        for record in logged(job)
        if record["dynamic_beta_max"] < 0.101 * pref_beta or record["dynamic_beta_min"] > 9.9 * pref_beta
    ]
    assert outside
    assert all("sit at a bound" in record.get("beta_collapse", "") for record in outside)


def test_learnable_starts_at_pref_beta_with_prompts_of_one_token(tiny_model: Path, tmp_path: Path) -> None:
    """One-token prompts fall back to pref_beta and do not count in the mean log-perplexity."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    bare = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (model / "chat_template.jinja").write_text(bare, encoding="utf-8")
    pairs = make_pairs(4)
    for pair, prompt in zip(pairs, ("a", "b", "cde", "fghij"), strict=True):
        pair.prompt[0]["content"] = prompt
    job = trained(model, tmp_path / "run", "learnable", training={"max_steps": 1}, pairs=pairs)
    assert logged(job)[0]["dynamic_beta"] == pytest.approx(0.1, rel=1e-4)
