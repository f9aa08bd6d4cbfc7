"""Published rules against the formulas of their papers and code, written a second time here in float64 numpy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.rules import catalogue
from trainers.rules.base import RuleBatch

quick = settings(max_examples=40, deadline=None)
margins = st.lists(st.floats(-8.0, 8.0), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-3)


def batch_of(size: int, **values: Any) -> RuleBatch:
    tensors = {key: torch.tensor(value) if isinstance(value, list) else value for key, value in values.items()}
    return RuleBatch(
        tensors.pop("log_ppl", torch.ones(size)), torch.ones(size).bool(), None, torch.arange(size), **tensors
    )


# -- beta-DPO --------------------------------------------------------------------------------------------------


@quick
@given(st.lists(margins, min_size=1, max_size=4), st.floats(0.0, 1.0), st.floats(0.02, 0.5))
def test_beta_dpo_without_its_filter(batches: list[list[float]], a: float, beta0: float) -> None:
    rule = catalogue.build("beta_dpo", {"a": a, "keep": 1.0, "pref_beta": beta0}, 8)
    mu = 0.0
    for values in batches:
        delta = np.array(values)
        mu = 0.9 * mu + 0.1 * delta.mean()
        expected = max(beta0 * (1 + a * (delta.mean() - mu)), 1e-3)
        out = rule(batch_of(len(values), delta=torch.tensor(values, dtype=torch.float64)))
        assert out.beta.tolist() == pytest.approx([expected] * len(values), rel=1e-9)
        assert out.mask.all() and not out.beta.requires_grad


def test_beta_dpo_draws_by_gaussian_weight_and_uses_what_it_kept() -> None:
    """Shares of 4000 draws against the exact probability that the one pair left out is pair i."""
    delta = np.array([0.0, 0.5, -0.5, 1.0, 6.0])
    left_out = np.zeros(5)
    for seed in range(4000):
        rule = catalogue.build("beta_dpo", {"keep": 0.8}, 8)
        rule.seed = seed
        rule.statistics.mean.fill_(0.0)
        rule.statistics.std.fill_(2.0)
        rule.statistics.momentum = 1.0  # holds mu and sigma still
        out = rule(batch_of(5, delta=torch.tensor(delta)))
        kept = out.mask.numpy()
        assert kept.sum() == 4
        assert float(out.beta[0]) == pytest.approx(max(0.1 * (1 + 0.6 * delta[kept].mean()), 1e-3), rel=1e-9)
        left_out[~kept] += 1
    weight = np.exp(-((delta / 2.0) ** 2) / 2)

    def drawn(order: tuple[int, ...]) -> float:
        total, probability = weight.sum(), 1.0
        for i in order:
            probability *= weight[i] / total
            total -= weight[i]
        return probability

    import itertools

    exact = np.zeros(5)
    for order in itertools.permutations(range(5), 4):
        exact[(set(range(5)) - set(order)).pop()] += drawn(order)
    error = np.sqrt(exact * (1 - exact) / 4000)
    assert np.all(np.abs(left_out / 4000 - exact) < 4 * error + 1e-3)


def test_beta_dpo_is_global_over_ranks_repeats_after_a_resume_and_stays_still_in_evaluation() -> None:
    delta = torch.tensor([0.1, -0.4, 2.0, 0.7, -1.2, 0.3, 0.9, -0.2], dtype=torch.float64)
    whole = catalogue.build("beta_dpo", {}, 8)
    together = whole(batch_of(8, delta=delta))
    halves = []
    for rank in range(2):
        rule = catalogue.build("beta_dpo", {}, 8)
        part = delta[rank * 4 : rank * 4 + 4]
        halves.append(rule(batch_of(4, delta=part, gather=lambda _: delta, rank=rank)))
    assert torch.equal(torch.cat([half.mask for half in halves]), together.mask)
    assert torch.equal(torch.cat([half.beta for half in halves]), together.beta)
    assert int(together.mask.sum()) == 6
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    evaluated = whole(batch_of(8, delta=delta, training=False))
    assert evaluated.mask.all()
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())
    resumed = catalogue.build("beta_dpo", {}, 8)
    resumed.load_state_dict(state)
    first, second = whole(batch_of(8, delta=delta)), resumed(batch_of(8, delta=delta))
    assert torch.equal(first.mask, second.mask) and torch.equal(first.beta, second.beta)


def test_batch_statistics_need_two_pairs() -> None:
    for name in ("beta_dpo", "alpha_dpo"):
        with pytest.raises(ValueError, match="per_device_train_batch_size of at least 2"):
            one = torch.tensor([0.5])
            catalogue.build(name, {}, 8)(
                batch_of(1, delta=one, delta_average=one, chosen_average=one, rejected_average=one)
            )


# -- epsilon-DPO -----------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 3), min_size=1, max_size=8), st.floats(0.0, 0.5), st.floats(0.005, 0.5))
def test_epsilon_dpo_steps_and_beta(ratios: list[tuple[float, float, float]], epsilon: float, beta0: float) -> None:
    rule = catalogue.build("epsilon_dpo", {"epsilon": epsilon, "pref_beta": beta0}, 8)
    beta, steps = beta0, []
    for half in (ratios, ratios[:1]):  # two micro-batches, one optimiser step
        expected = []
        for now, away, towards in half:
            step = 1 if away > now > towards else -1 if towards > now > away else 0
            steps.append(step)
            expected.append(beta / (1 + epsilon * step))
        values = torch.tensor(half, dtype=torch.float64).T
        out = rule(batch_of(len(half), log_ratios=values, log_ppl=torch.ones(len(half), dtype=torch.float64)))
        assert out.beta.tolist() == pytest.approx(expected, rel=1e-12)
    rule.after_optimizer_step(lambda values: values)
    assert float(rule.current) == pytest.approx(beta / (1 + epsilon * np.mean(steps)), rel=1e-12)
    assert float(rule.step_count) == 0


def test_perturbed_log_ratios_against_softmax_in_float64() -> None:
    from trainers.loss.forward import ForwardPass, perturbed_log_ratios

    generator = torch.Generator().manual_seed(3)
    hidden, other = torch.randn(2, 9, 6, generator=generator).double().unbind(0)
    head, reference_head = torch.nn.Linear(6, 11).double(), torch.nn.Linear(6, 11).double()
    targets = torch.randint(0, 11, (9,), generator=generator)
    rows = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3])  # pairs 0 and 1: chosen rows 0 and 1, rejected rows 2 and 3
    empty = torch.zeros(2)
    policy = ForwardPass(None, empty, empty, None, hidden, targets, rows)
    reference = ForwardPass(None, empty, empty, None, other, targets, rows)
    found = perturbed_log_ratios(policy, reference, head, reference_head, 0.1, 2)
    z, z_ref = head(hidden).detach().numpy(), reference_head(other).detach().numpy()
    for kind, logits in enumerate((z, 1.1 * z - 0.1 * z_ref, 0.9 * z + 0.1 * z_ref)):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        logp = np.log(p[np.arange(9), targets.numpy()])
        sums = [logp[rows.numpy() == row].sum() for row in range(4)]
        assert found[kind].tolist() == pytest.approx([sums[0] - sums[2], sums[1] - sums[3]], abs=1e-5)


# -- schedules and whose perplexity ----------------------------------------------------------------------------


def test_scale_schedules() -> None:
    for kind, middle in (("linear", 0.35), ("cosine", 0.2 + 0.6 * (1 - math.cos(math.pi / 4)) / 2)):
        params = {"pref_beta_scale": 0.2, "scale_schedule": kind, "pref_beta_scale_end": 0.8}
        rule = catalogue.build("foodpo", params, 8)
        for progress, scale in ((0.0, 0.2), (0.25, middle), (0.5, 0.5), (1.0, 0.8)):
            beta = rule(batch_of(2, log_ppl=torch.tensor([1.0, 3.0]), progress=progress)).beta
            assert beta.tolist() == pytest.approx([scale * 0.1, scale * 0.3], rel=1e-6)
    assert catalogue.build("foodpo", {}, 8).scale(0.7) == 0.5


def test_whose_perplexity() -> None:
    values = {
        "log_ppl": torch.tensor([2.0, 0.0]),
        "response_log_ppl": torch.tensor([1.0, 3.0]),
        "prompt_tokens": torch.tensor([3, 0]),
        "response_tokens": torch.tensor([5, 4]),
    }
    for of, expected in (("response", [1.0, 3.0]), ("both", [(2 * 3 + 5) / 8, 3.0])):
        rule = catalogue.build("foodpo", {"ppl_of": of}, 8)
        assert rule(batch_of(2, **values)).beta.tolist() == pytest.approx([0.05 * value for value in expected])
