"""Gradients against finite differences of an objective written a second time; shared rows against a plain forward."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.loss.pair_rows import PairRows, add_pair_scoring, build_rows, shared_prompt_lengths
from trainers.rules import catalogue
from trainers.rules.base import RuleBatch

#: (prompt, chosen, rejected) lengths: ragged, prompts and answers of one token
LENGTHS = [(5, 3, 4), (1, 2, 6), (2, 1, 1), (9, 4, 2), (1, 1, 3)]
REF = torch.tensor([0.3, -0.8, 1.5, -0.2, 0.6], dtype=torch.float64)  # reference margins, so that Delta is not 0


class Norm64(torch.nn.Module):
    """RMS norm without Llama's cast to float32, so that finite differences are not drowned in rounding."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.weight, self.eps = inner.weight, inner.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


def load(path: Path, attention: str) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation=attention, dtype=torch.float64).eval()
    for layer in model.model.layers:
        layer.input_layernorm = Norm64(layer.input_layernorm)
        layer.post_attention_layernorm = Norm64(layer.post_attention_layernorm)
    model.model.norm = Norm64(model.model.norm)
    return model


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    """In float64; scores pairs and still answers plain calls."""
    model = load(tiny_model, request.param)
    add_pair_scoring(model)
    return model


def make_sequences(lengths: list[tuple[int, int, int]], seed: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(3, 200, (n,), generator=generator) for n in row) for row in lengths]  # type: ignore[misc]


def trl_batch(sequences: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """input_ids, attention_mask, completion_mask in TRL's layout: chosen rows, rejected rows, padded on the right."""
    rows = [(p, c) for p, c, _ in sequences] + [(p, r) for p, _, r in sequences]
    width = max(len(p) + len(a) for p, a in rows)
    ids = torch.full((len(rows), width), 2)
    attention, completion = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, (p, a) in enumerate(rows):
        ids[i, : len(p) + len(a)] = torch.cat([p, a])
        attention[i, : len(p) + len(a)] = 1
        completion[i, len(p) : len(p) + len(a)] = 1
    return ids, attention, completion


def make_rows(sequences: list[tuple[Tensor, Tensor, Tensor]]) -> PairRows:
    batch = trl_batch(sequences)
    lengths = shared_prompt_lengths(*batch)
    assert lengths == [len(prompt) for prompt, _, _ in sequences]
    return build_rows(*batch[:2], lengths, pad_token_id=2)


def token_log_probs(model: Any, ids: Tensor) -> Tensor:
    """log p of each token after the first, from a forward of this one unpadded sequence."""
    return torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1], -1).gather(-1, ids[1:, None]).squeeze(-1)


def plain(model: Any, sequences: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Policy margins log pi_w - log pi_l and mean prompt NLLs, one sequence at a time."""
    margins, nlls = [], []
    for p, c, r in sequences:
        chosen, rejected = (token_log_probs(model, torch.cat([p, a])) for a in (c, r))
        margins.append(chosen[len(p) - 1 :].sum() - rejected[len(p) - 1 :].sum())
        prompt = chosen[: len(p) - 1]
        nlls.append(-prompt.mean() if len(prompt) else prompt.sum())
    return torch.stack(margins), torch.stack(nlls)


def foodpo_loss(margins: Tensor, nll: Tensor) -> Tensor:
    """Formula with pref_beta 0.4 and c 0.5, one-token prompts at pref_beta."""
    has = torch.tensor([p > 1 for p, _, _ in LENGTHS])
    beta = torch.where(has, 0.5 * nll.clamp_min(0) * 0.4, torch.full_like(nll, 0.4))
    return torch.log1p(torch.exp(-beta * (margins - REF))).mean()


def gradients(model: Any, rows: PairRows, attach: bool) -> dict[str, Tensor]:
    """Of the loss as the harness computes it: shared rows, the rule itself."""
    model.zero_grad()
    scores = model(pair_rows=rows, attach_ppl=attach)
    assert scores.prompt_nll.requires_grad is attach
    rule = catalogue.build("foodpo", {"pref_beta": 0.4, "pref_beta_scale": 0.5, "attach_ppl": attach}, 32)
    has = torch.tensor([p > 1 for p, _, _ in LENGTHS])
    beta = rule.beta(RuleBatch(scores.prompt_nll, has, None, torch.arange(len(has))))
    chosen, rejected = scores.outputs.log_probs.sum(1).chunk(2)
    loss = -torch.nn.functional.logsigmoid(beta * (chosen - rejected - REF)).mean()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


NAMES = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.norm.weight",
)


def slope(parameter: Tensor, entry: int, objective: Callable[[], Tensor], step: float = 1e-5) -> float:
    """Central difference of `objective` in one entry of `parameter`."""
    flat, values = parameter.data.view(-1), []
    before = flat[entry].item()
    for sign in (1, -1):
        flat[entry] = before + sign * step
        values.append(objective().item())
    flat[entry] = before
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("attach", [False, True], ids=["detached", "attached"])
def test_gradient_of_foodpo_equals_finite_differences(model: Any, tiny_model: Path, attach: bool) -> None:
    sequences = make_sequences(LENGTHS)
    found = gradients(model, make_rows(sequences), attach)
    other = load(tiny_model, "sdpa")  # in float64 throughout; eager attention rounds its softmax to float32
    with torch.no_grad():
        _, frozen = plain(other, sequences)

        def objective() -> Tensor:
            margins, nll = plain(other, sequences)
            return foodpo_loss(margins, nll if attach else frozen)

        parameters = dict(other.named_parameters())
        for name in NAMES:
            gradient = found[name].view(-1)
            for entry in gradient.abs().topk(3).indices.tolist():
                expected = slope(parameters[name], entry, objective)
                # scoring takes its log-softmax in float32, hence not tighter
                assert gradient[entry].item() == pytest.approx(expected, rel=1e-4), (name, entry)


def test_attached_and_detached_gradients_differ(model: Any) -> None:
    rows = make_rows(make_sequences(LENGTHS))
    detached, attached = gradients(model, rows, False), gradients(model, rows, True)
    for name in NAMES:
        difference = torch.linalg.vector_norm(attached[name] - detached[name])
        assert difference > 0.01 * torch.linalg.vector_norm(detached[name]), name


def test_attached_perplexity_raises_the_perplexity_of_well_ordered_pairs(model: Any) -> None:
    """Why detached is the default: a step down the attached loss pushes the NLL of prompts with Delta > 0 up."""
    sequences = make_sequences([(6, 3, 3)])
    scores = model(pair_rows=make_rows(sequences), attach_ppl=True)
    nll_gradient = torch.autograd.grad(scores.prompt_nll.sum(), model.model.norm.weight, retain_graph=True)[0]
    loss = -torch.nn.functional.logsigmoid(0.05 * scores.prompt_nll * 2.0).sum()  # Delta = 2, fixed
    extra = torch.autograd.grad(loss, model.model.norm.weight)[0]
    assert torch.dot(-extra, nll_gradient) > 0


@pytest.mark.parametrize("lengths", [LENGTHS, [(1, 1, 1)], [(1, 5, 2), (30, 1, 17)], [(4, 4, 4)] * 3])
def test_rows_equal_a_plain_forward(model: Any, lengths: list[tuple[int, int, int]]) -> None:
    sequences = make_sequences(lengths, seed=3)
    half, rows = len(sequences), make_rows(sequences)
    with torch.no_grad():
        scores = model(pair_rows=rows)
        expected = torch.zeros(rows.shape, dtype=torch.float64)
        for i, (p, c, r) in enumerate(sequences):
            for row, answer in ((i, c), (half + i, r)):
                values = token_log_probs(model, torch.cat([p, answer]))[len(p) - 1 :]
                expected[row, len(p) - 1 : len(p) - 1 + len(answer)] = values
        _, nll = plain(model, sequences)
        # the layout of rows, with the log-softmax in float64: exact
        eager = model.config._attn_implementation == "eager"
        mask = rows.attention_mask
        bias = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
        hidden = model.model(rows.input_ids, attention_mask=bias if eager else mask, position_ids=rows.position_ids)
        flat = hidden.last_hidden_state.flatten(0, 1)
        table = torch.log_softmax(flat[rows.source] @ model.lm_head.weight.T, -1)
        exact = torch.zeros(expected.numel(), dtype=torch.float64)
        exact[rows.destination] = table.gather(-1, rows.target[:, None]).squeeze(-1)
    tolerance = 1e-5 if eager else 1e-9  # eager attention rounds its softmax to float32, whatever the weights
    torch.testing.assert_close(exact.view(rows.shape), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(scores.outputs.log_probs.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(scores.prompt_nll.double(), nll, rtol=0, atol=1e-5)
    assert [x.item() == 0 for x in scores.prompt_nll] == [n == 1 for n, _, _ in lengths]


@pytest.mark.parametrize("how", ["last_prompt_token", "mean_prompt", "last_completion_token"])
def test_hidden_states_equal_those_of_a_plain_forward(model: Any, how: str) -> None:
    sequences = make_sequences(LENGTHS, seed=5)
    with torch.no_grad():
        found = model(pair_rows=make_rows(sequences), aggregation=how).hidden
        for i, (p, c, _) in enumerate(sequences):
            states = model.model(torch.cat([p, c])[None]).last_hidden_state[0]
            expected = {
                "last_prompt_token": states[len(p) - 1],
                "mean_prompt": states[: len(p)].mean(0),
                "last_completion_token": states[-1],
            }[how]
            tolerance = 1e-5 if model.config._attn_implementation == "eager" else 1e-9
            torch.testing.assert_close(found[i], expected, rtol=0, atol=tolerance)
