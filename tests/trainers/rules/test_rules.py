"""Each beta rule against its formula, written a second time here in float64; bounds, anchor, registry."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.rules import catalogue
from trainers.rules.base import RuleBatch
from trainers.rules.learned import inverse_softplus

HIDDEN = 16
LEARNED = ["beta_head", "learnable"]
betas = st.floats(1e-3, 5.0)
log_ppls = st.lists(st.floats(-2.0, 12.0), min_size=1, max_size=8)
quick = settings(max_examples=40, deadline=None)


def make_batch(log_ppl: list[float], has_ppl: list[bool] | None = None, seed: int = 0) -> RuleBatch:
    known = torch.tensor(has_ppl if has_ppl is not None else [True] * len(log_ppl))
    hidden = torch.randn(len(log_ppl), HIDDEN, generator=torch.Generator().manual_seed(seed))
    values = torch.tensor(log_ppl, dtype=torch.float32).masked_fill(~known, 0)
    return RuleBatch(values, known, hidden, torch.arange(len(log_ppl)))


def randomise(rule: Any, seed: int = 1) -> Any:
    """Give every weight of a head a value, so that beta depends on the hidden state."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return rule


def normalised(hidden: Tensor) -> np.ndarray:
    x = hidden.double().numpy()
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)


# -- foodpo ----------------------------------------------------------------------------------------------------


@quick
@given(betas, st.floats(0.01, 3.0), log_ppls, st.data())
def test_foodpo_formula(pref_beta: float, scale: float, log_ppl: list[float], data: st.DataObject) -> None:
    known = data.draw(st.lists(st.booleans(), min_size=len(log_ppl), max_size=len(log_ppl)))
    rule = catalogue.build("foodpo", {"pref_beta": pref_beta, "pref_beta_scale": scale}, HIDDEN)
    expected = [
        scale * math.log(max(math.exp(nll), 1.0)) * pref_beta if has else pref_beta
        for nll, has in zip(log_ppl, known, strict=True)
    ]
    assert rule.beta(make_batch(log_ppl, known)).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("scale", [0, 0.0, -0.5])
def test_foodpo_without_a_scale_is_fixed(scale: float) -> None:
    beta = catalogue.build("foodpo", {"pref_beta": 0.2, "pref_beta_scale": scale}, HIDDEN).beta(make_batch([1.0, 3.0]))
    assert isinstance(beta, float) and beta == 0.2


def test_foodpo_grows_with_perplexity_and_keeps_the_gradient_of_what_it_is_given() -> None:
    batch = make_batch([0.5, 1.0, 4.0, -1.0])
    batch.log_ppl.requires_grad_()
    beta = catalogue.build("foodpo", {"attach_ppl": True}, HIDDEN).beta(batch)
    assert torch.all(beta[:3].diff() > 0)
    beta.sum().backward()
    assert batch.log_ppl.grad is not None
    assert batch.log_ppl.grad.tolist() == pytest.approx([0.05, 0.05, 0.05, 0.0])


# -- learned rules ---------------------------------------------------------------------------------------------


@quick
@given(st.floats(1e-6, 100.0))
def test_inverse_softplus(value: float) -> None:
    z = inverse_softplus(value)
    assert max(z, 0) + math.log1p(math.exp(-abs(z))) == pytest.approx(value, rel=1e-9)


@quick
@given(betas, st.integers(0, 1000))
def test_beta_head_starts_at_pref_beta(pref_beta: float, seed: int) -> None:
    rule = catalogue.build("beta_head", {"pref_beta": pref_beta}, HIDDEN)
    beta = rule.beta(make_batch([1.0, 2.0, 0.0], [True, True, False], seed))
    assert beta.tolist() == pytest.approx([pref_beta] * 3, rel=2e-6)


@quick
@given(betas, st.integers(0, 1000))
def test_beta_head_formula(pref_beta: float, seed: int) -> None:
    rule = randomise(catalogue.build("beta_head", {"pref_beta": pref_beta}, HIDDEN), seed)
    batch = make_batch([1.0] * 5, seed=seed)
    assert batch.hidden is not None
    weight, bias = rule.value.weight.detach().double().numpy()[0], rule.value.bias.item()
    expected = np.log1p(np.exp(normalised(batch.hidden) @ weight + bias))
    assert rule.beta(batch).tolist() == pytest.approx(expected, rel=1e-4)


@quick
@given(betas, st.lists(st.floats(0.1, 12.0), min_size=1, max_size=8), st.sampled_from(["linear", "mlp", "transformer"]))
def test_learnable_starts_with_mean_beta_at_pref_beta(pref_beta: float, log_ppl: list[float], network: str) -> None:
    rule = catalogue.build("learnable", {"pref_beta": pref_beta, "network": network}, HIDDEN)
    rule.initialise(torch.tensor(log_ppl))
    beta = rule.beta(make_batch(log_ppl))
    assert beta.mean().item() == pytest.approx(pref_beta, rel=1e-5)
    assert (beta / beta[0]).tolist() == pytest.approx([nll / log_ppl[0] for nll in log_ppl], rel=1e-4)


@quick
@given(st.floats(0.0, 0.9), log_ppls, st.integers(0, 1000))
def test_learnable_formula(epsilon: float, log_ppl: list[float], seed: int) -> None:
    rule = randomise(catalogue.build("learnable", {"epsilon": epsilon, "network": "linear"}, HIDDEN), seed)
    batch = make_batch(log_ppl, [i % 3 != 2 for i in range(len(log_ppl))], seed)
    assert batch.hidden is not None
    last = rule.network[1]
    score = normalised(batch.hidden) @ last.weight.detach().double().numpy()[0] + last.bias.item()
    beta = math.exp(rule.log_w.item()) * np.maximum(log_ppl, 0) * (1 + epsilon * np.tanh(score))
    expected = np.where(batch.has_ppl.numpy(), beta, 0.1)
    assert rule.beta(batch).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("network", ["linear", "mlp", "transformer"])
@pytest.mark.parametrize("hidden_size", [16, 7])
def test_networks_run_stay_within_epsilon_and_learn(network: str, hidden_size: int) -> None:
    rule = catalogue.build("learnable", {"network": network, "epsilon": 0.3, "width": 8}, hidden_size)
    rule.initialise(torch.tensor([2.0]))
    randomise(rule.network)
    batch = RuleBatch(torch.full((6,), 2.0), torch.ones(6).bool(), torch.randn(6, hidden_size), torch.arange(6))
    beta = rule.beta(batch)
    assert beta.shape == (6,) and float(beta.detach().std()) > 0
    assert torch.all((beta / 0.1 - 1).abs() <= 0.3 + 1e-5)
    beta.sum().backward()
    assert all(parameter.grad is not None for parameter in rule.parameters())


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("reaches", [False, True])
def test_head_gradient_reaches_hidden_states_only_if_asked(name: str, reaches: bool) -> None:
    rule = randomise(catalogue.build(name, {"head_gradient_to_policy": reaches}, HIDDEN))
    batch = make_batch([1.0, 2.0])
    assert batch.hidden is not None
    batch.hidden.requires_grad_()
    rule.beta(batch).sum().backward()
    assert (batch.hidden.grad is not None and bool(batch.hidden.grad.any())) is reaches


@quick
@given(betas, st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=6), st.floats(0.01, 2.0))
def test_bounds_and_anchor_penalty(pref_beta: float, ratios: list[float], anchor: float) -> None:
    rule = catalogue.build("beta_head", {"pref_beta": pref_beta, "anchor": anchor}, HIDDEN)
    beta = torch.tensor(ratios, dtype=torch.float64) * pref_beta
    clamped = rule.clamp(beta)
    assert (clamped / pref_beta).tolist() == pytest.approx([min(max(r, 0.1), 10.0) for r in ratios])
    assert rule.at_bound(clamped).tolist() == [r <= 0.1 + 1e-6 or r >= 10 - 1e-6 for r in ratios]
    expected = anchor * sum(math.log(r) ** 2 for r in ratios) / len(ratios)
    assert float(rule.penalty(beta)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


# -- registry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", sorted(catalogue.BUILTIN))
def test_defaults_are_filled_in_and_build(rule: str) -> None:
    filled = catalogue.validate(rule, {})
    published = {"epsilon_dpo": 0.01, "alpha_dpo": 2.5, "tur_dpo": 2.0, "uni_dpo": 2.0}.get(rule, 0.1)
    assert filled["pref_beta"] == published and filled["pref_loss"] == "sigmoid"
    assert catalogue.build(rule, filled, HIDDEN).pref_beta == published


@pytest.mark.parametrize(
    ("rule", "params", "message"),
    [
        ("foodp", {}, "did you mean 'foodpo'"),
        ("zzz", {}, "known rules: .*beta_head.*learnable"),
        ("foodpo", {"pref_beta_scal": 1}, "did you mean 'pref_beta_scale'"),
        ("fixed", {"pref_beta_scale": 1}, "has no parameter 'pref_beta_scale'"),
        ("fixed", {"pref_beta": 0}, "a number above 0"),
        ("fixed", {"pref_beta": True}, "a number above 0"),
        ("fixed", {"pref_beta": float("nan")}, "a number above 0"),
        ("fixed", {"pref_beta": "0.1"}, "a number above 0"),
        ("fixed", {"pref_loss": "sigmoids"}, "sigmoid, hinge, ipo"),
        ("fixed", {"pref_loss": "aot"}, "aot sorts the pairs"),
        ("beta_dpo", {"pref_loss": "hinge"}, "pref_loss of rule 'beta_dpo' is 'hinge'; it must be one of sigmoid"),
        ("beta_dpo", {"keep": 0}, "above 0, at most 1"),
        ("foodpo", {"scale_schedule": "linear"}, "needs pref_beta_scale_end"),
        ("foodpo", {"pref_beta_scale_end": 0.7}, "has no effect unless scale_schedule"),
        ("foodpo", {"scale_schedule": "cosine", "pref_beta_scale_end": -1.0}, "above 0, or null"),
        ("foodpo", {"ppl_of": "answer"}, "prompt, response, both"),
        ("foodpo", {"attach_ppl": 1}, "true or false"),
        ("foodpo", {"pref_beta_scale": float("inf")}, "a finite number"),
        ("beta_head", {"anchor": -0.1}, "at least 0"),
        ("beta_head", {"beta_min_ratio": 2.0}, "beta_min_ratio must be below 1"),
        ("beta_head", {"aggregation": "last"}, "last_prompt_token, mean_prompt, last_completion_token"),
        ("learnable", {"width": 0}, "a whole number above 0"),
        ("learnable", {"network": "cnn"}, "linear, mlp, transformer"),
        ("no/such/file.py:Rule", {}, "no such file"),
    ],
)
def test_registry_says_what_is_wrong(rule: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(catalogue.RuleError, match=message):
        catalogue.build(rule, params, HIDDEN)
