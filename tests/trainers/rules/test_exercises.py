"""The exercises of a DPO course as known values, on the code that trains.

r = (log pi_w - log pi_l) - (log ref_w - log ref_l); loss(r) = -log sigmoid(beta * r); d loss / d r = -beta * sigmoid(-r beta).
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.trainers.helpers import logged, make_pairs, rows_of, trained, weights_of
from trainers.loss.pair_rows import add_pair_scoring, build_rows

numbers = st.floats(-50.0, 50.0)
quick = settings(max_examples=50, deadline=None)


def preference(pi_w: float, pi_l: float, ref_w: float, ref_l: float) -> float:
    return (pi_w - pi_l) - (ref_w - ref_l)


def loss(r: float) -> float:
    """Stable -log sigmoid(r), as the trainer computes it."""
    return F.softplus(-torch.tensor(r, dtype=torch.float64), threshold=1e6).item()


def bigram_model(table: dict[tuple[int, int], float], vocabulary: int = 8) -> Any:
    """A real Llama whose next-token probabilities depend on the last token only: p(b | a) = table[a, b].

    Hidden state of token a is sqrt(V) * e_a, since both branches of its one layer are zero; the LM head holds log p.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=vocabulary,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        rms_norm_eps=0.0,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config).double().eval()
    probabilities = torch.zeros((vocabulary, vocabulary), dtype=torch.float64)
    for (a, b), p in table.items():
        probabilities[a, b] = p
    left = (1 - probabilities.sum(1, keepdim=True)) / (probabilities == 0).sum(1, keepdim=True)
    probabilities = torch.where(probabilities == 0, left, probabilities)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(vocabulary))
        model.lm_head.weight.copy_(probabilities.log().T / math.sqrt(vocabulary))
    add_pair_scoring(model)
    return model


def answers(model: Any) -> tuple[float, float]:
    """Summed log-probs of the answers (1, 2) and (3, 4) to the prompt (5, 0)."""
    ids = torch.tensor([[5, 0, 1, 2], [5, 0, 3, 4]])
    with torch.no_grad():
        scores = model(pair_rows=build_rows(ids, torch.ones_like(ids), [2], pad_token_id=7))
    chosen, rejected = scores.outputs.log_probs.sum(1).tolist()
    return chosen, rejected


def test_equal_margins_have_preference_zero() -> None:
    assert preference(-2.0, -2.5, -3.0, -3.5) == 0
    assert loss(0.0) == pytest.approx(math.log(2))


def test_loss_and_slope_at_known_points() -> None:
    assert loss(1.2) == pytest.approx(0.263, abs=5e-4)
    r = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (-F.logsigmoid(r)).backward()
    assert r.grad is not None
    assert r.grad.item() == pytest.approx(-0.310, abs=5e-4)
    assert r.grad.item() == pytest.approx(-1 / (1 + math.exp(0.8)), abs=1e-12)


def test_answers_of_two_tokens() -> None:
    """log(0.5 * 0.4) = -1.609 and log(0.3 * 0.6) = -1.715, with a reference that prefers the chosen one by 0.5 nats."""
    policy = bigram_model({(0, 1): 0.5, (1, 2): 0.4, (0, 3): 0.3, (3, 4): 0.6})
    # log ref_w = -1 - 1 = -2.0 and log ref_l = -1.5 - 1 = -2.5
    reference = bigram_model({(0, 1): math.exp(-1), (1, 2): math.exp(-1), (0, 3): math.exp(-1.5), (3, 4): math.exp(-1)})
    pi_w, pi_l = answers(policy)
    ref_w, ref_l = answers(reference)
    assert pi_w == pytest.approx(-1.609, abs=5e-4) and pi_w == pytest.approx(math.log(0.2), abs=1e-5)
    assert pi_l == pytest.approx(-1.715, abs=5e-4) and pi_l == pytest.approx(math.log(0.18), abs=1e-5)
    assert (ref_w, ref_l) == pytest.approx((-2.0, -2.5), abs=1e-5)
    r = preference(pi_w, pi_l, ref_w, ref_l)
    assert r == pytest.approx(-0.3946, abs=1e-4)
    assert loss(r) == pytest.approx(math.log(1 + math.exp(0.3946)), abs=1e-4)


@quick
@given(numbers, st.floats(0.01, 10.0))
def test_loss_falls_as_the_preference_grows(r: float, more: float) -> None:
    assert loss(r + more) < loss(r)
    assert loss(r) > 0


@quick
@given(numbers, numbers, numbers, numbers, numbers)
def test_preference_ignores_what_both_answers_share(w: float, lo: float, rw: float, rl: float, shift: float) -> None:
    assert preference(w + shift, lo + shift, rw, rl) == pytest.approx(preference(w, lo, rw, rl), abs=1e-9)
    assert preference(w, lo, w, lo) == 0
    assert preference(w, lo, rw, rl) == -preference(lo, w, rl, rw)


@pytest.mark.parametrize("pref_loss", ["sigmoid", "hinge", "ipo"])
def test_recorded_preference_and_loss_follow_the_formulas(tiny_model: Path, tmp_path: Path, pref_loss: str) -> None:
    beta = 0.3
    job = trained(
        tiny_model,
        tmp_path,
        params={"pref_beta": beta, "pref_loss": pref_loss},
        training={"max_steps": 3, "per_device_train_batch_size": 8},
        pairs=make_pairs(8),
    )
    rows = rows_of(job)
    expected = []
    for row in rows.itertuples():
        r = preference(row.policy_chosen_logp, row.policy_rejected_logp, row.ref_chosen_logp, row.ref_rejected_logp)
        assert row.delta == pytest.approx(r, abs=1e-4)
        if pref_loss == "sigmoid":
            expected.append(loss(beta * r))
            assert row.gradient_weight == pytest.approx(beta / (1 + math.exp(beta * r)), rel=1e-4)
        elif pref_loss == "hinge":
            expected.append(max(0.0, 1 - beta * r))
        else:
            chosen = (row.policy_chosen_logp - row.ref_chosen_logp) / row.chosen_tokens
            rejected = (row.policy_rejected_logp - row.ref_rejected_logp) / row.rejected_tokens
            expected.append((chosen - rejected - 1 / (2 * beta)) ** 2)
    assert rows.loss.tolist() == pytest.approx(expected, rel=1e-4)
    losses = [record["loss"] for record in logged(job)]
    assert losses == pytest.approx(rows.groupby("step").loss.mean().tolist(), rel=1e-3)
    assert losses[-1] < losses[0]


def test_only_the_policy_moves(tiny_model: Path, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tiny_model.iterdir() if p.is_file()}

    before = digests()
    job = trained(tiny_model, tmp_path, training={"max_steps": 3}, pairs=make_pairs(4))
    assert digests() == before
    reference = load_file(tiny_model / "model.safetensors")
    policy = weights_of(job)
    assert policy.keys() == reference.keys()
    assert any(not torch.equal(policy[key], reference[key]) for key in policy)
    rows = rows_of(job).groupby("example_id")
    assert (rows.ref_chosen_logp.nunique() == 1).all() and (rows.ref_rejected_logp.nunique() == 1).all()
    assert (rows.policy_chosen_logp.nunique() == 3).all()
