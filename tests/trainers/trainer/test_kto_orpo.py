"""KTO and ORPO with a beta per example: stock TRL where the beta is fixed, the formulas where it is not."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaModel

from tests.trainers.helpers import logged, make_job, make_pairs, rows_of, stock_run, weights_of
from trainers.formats.pairs import PreferencePair, row_ids, unpaired_rows
from trainers.rules.catalogue import RuleError
from trainers.run.objectives import OBJECTIVES, ObjectiveError, validate
from trainers.run.train import train

LORA = {"r": 4, "target_modules": "all-linear"}
CASES = [("kto", "kto"), ("kto", "apo_zero_unpaired"), ("orpo", "orpo")]
FOODPO = {"pref_beta": 0.4, "pref_beta_scale": 0.5}


def run(
    job: Any, objective: str, pairs: list[PreferencePair]
) -> tuple[dict[str, Any], list[dict[str, Any]], pd.DataFrame]:
    """Train; returns the result, the logged steps and the example rows."""
    result = train(job, pairs, lambda _: None, objective)
    return result, logged(job), rows_of(job)


IDENTITY = [
    ("kto", "kto", None, {"precompute_ref_log_probs": True}),
    ("kto", "kto", None, {"precompute_ref_log_probs": False}),
    ("kto", "kto", LORA, {"precompute_ref_log_probs": True}),
    ("kto", "kto", LORA, {"precompute_ref_log_probs": False, "gradient_accumulation_steps": 2}),
    ("kto", "kto", None, {"gradient_checkpointing": True, "desirable_weight": 1.5, "precompute_ref_log_probs": True}),
    ("kto", "apo_zero_unpaired", None, {"precompute_ref_log_probs": False, "train_sampling_strategy": "random"}),
    ("orpo", "orpo", None, {}),
    ("orpo", "orpo", LORA, {}),
    ("orpo", "orpo", None, {"gradient_accumulation_steps": 2, "gradient_checkpointing": True, "max_length": 50}),
]


@pytest.mark.parametrize(("objective", "loss", "lora", "training"), IDENTITY)
def test_fixed_is_bit_identical_to_stock_trl(
    tiny_model: Path, tmp_path: Path, objective: str, loss: str, lora: Any, training: dict[str, Any]
) -> None:
    pairs = make_pairs()
    params = {"pref_beta": 0.3, "pref_loss": loss}
    job = make_job(tiny_model, tmp_path / "ours", lora=lora, params=params, training={**training, "max_steps": 6})
    stock, weights = stock_run(job, objective, pairs, tmp_path / "stock")
    result, ours, rows = run(job, objective, pairs)
    if objective == "kto":
        assert result["reference_in_loop"] is not training["precompute_ref_log_probs"]
    assert len(ours) == len(stock) == 6
    for mine, theirs in zip(ours, stock, strict=True):
        shared = set(theirs) - {"epoch"}
        assert {"grad_norm", "rewards/chosen", "logps/chosen"} <= shared
        assert {key: mine[key] for key in shared} == {key: theirs[key] for key in shared}
    saved = weights_of(job)
    assert all(torch.equal(value, weights[key]) for key, value in saved.items())
    assert (rows.dynamic_beta == 0.3).all()


def _log_likelihoods(model: Any, tokenizer: Any, pair: PreferencePair, answer: list[dict[str, str]], eos: bool) -> Any:
    """Per-token log-probs of prompt and answer from a plain float64 forward, and the prompt's number of tokens."""
    prompt = tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True, tokenize=False)
    text = tokenizer.apply_chat_template(pair.prompt + answer, tokenize=False)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    if eos:
        ids = torch.cat([ids, torch.tensor([[tokenizer.eos_token_id]])], 1)
    logps = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return logps, len(tokenizer(prompt, add_special_tokens=False).input_ids)


@pytest.fixture
def plain(tiny_model: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    return model, AutoTokenizer.from_pretrained(tiny_model)


def test_orpo_rows_and_loss_follow_the_formula_in_float64(tiny_model: Path, tmp_path: Path, plain: Any) -> None:
    pairs = make_pairs()
    job = make_job(tiny_model, tmp_path, "foodpo", params=FOODPO, training={"max_steps": 1})
    _, steps, rows = run(job, "orpo", pairs)
    by_id = {pair.id: pair for pair in pairs}
    assert len(rows) == 4
    nll, targets, odds = 0.0, 0, 0.0
    for row in rows.itertuples():
        pair = by_id[row.example_id]
        chosen, prompt = _log_likelihoods(*plain, pair, pair.chosen, eos=True)
        rejected, _ = _log_likelihoods(*plain, pair, pair.rejected, eos=True)
        log_ppl = -chosen[: prompt - 1].mean().item()
        beta = 0.5 * log_ppl * 0.4
        assert row.log_prompt_perplexity == pytest.approx(log_ppl, abs=1e-5)
        assert row.prompt_perplexity == pytest.approx(math.exp(log_ppl), rel=1e-5)
        assert row.dynamic_beta == pytest.approx(beta, abs=1e-6)
        assert (row.prompt_tokens, row.chosen_tokens) == (prompt, len(chosen) - prompt + 1)
        assert row.policy_chosen_logp == pytest.approx(chosen[prompt - 1 :].sum().item(), abs=1e-3)
        p_w, p_l = (part[prompt - 1 :].mean().exp().item() for part in (chosen, rejected))
        log_odds = math.log(p_w / (1 - p_w)) - math.log(p_l / (1 - p_l))
        odds += beta * math.log(1 / (1 + math.exp(-log_odds))) / 4
        assert row.gradient_weight == pytest.approx(beta / (1 + math.exp(log_odds)), abs=1e-5)
        nll, targets = nll - chosen.sum().item(), targets + len(chosen)
    assert steps[0]["loss"] == pytest.approx(nll / targets - odds, abs=1e-5)
    assert rows.loss.mean() == pytest.approx(steps[0]["loss"], abs=1e-5)
    assert rows[["delta", "ref_chosen_logp", "ref_rejected_logp"]].isna().all(axis=None)
    assert steps[0]["dynamic_beta"] == pytest.approx(rows.dynamic_beta.mean())
    assert steps[0]["log_prompt_perplexity"] == pytest.approx(rows.log_prompt_perplexity.mean())
    assert "delta" not in steps[0]


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_kto_rows_and_loss_follow_the_formula_in_float64(
    tiny_model: Path, tmp_path: Path, plain: Any, loss: str
) -> None:
    pairs, by_id = make_pairs(), {pair.id: pair for pair in make_pairs()}
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.75, "max_steps": 3}
    job = make_job(tiny_model, tmp_path, "foodpo", params={**FOODPO, "pref_loss": loss}, training=weights)
    _, steps, rows = run(job, "kto", pairs)
    for step, record in enumerate(steps, start=1):
        part = rows[rows.step == step]
        assert len(part) == 4 and part.chosen_tokens.notna().sum() == 2
        rewards: dict[bool, list[float]] = {True: [], False: []}
        for row in part.itertuples():
            good = not math.isnan(row.policy_chosen_logp)
            policy = row.policy_chosen_logp if good else row.policy_rejected_logp
            ratio = policy - (row.ref_chosen_logp if good else row.ref_rejected_logp)
            kl = record["kl"] if loss == "kto" else 0.0
            z = (1 if good else -1) * row.dynamic_beta * (ratio - kl)
            expected = (1.5 if good else 0.75) * (1 - 1 / (1 + math.exp(-z)))
            assert row.loss == pytest.approx(expected, abs=1e-9)
            assert row.dynamic_beta == pytest.approx(0.5 * row.log_prompt_perplexity * 0.4, rel=1e-5)
            other = (
                [row.rejected_tokens, row.policy_rejected_logp] if good else [row.chosen_tokens, row.policy_chosen_logp]
            )
            assert all(pd.isna(value) for value in other)
            rewards[good].append(row.dynamic_beta * ratio)
            if step == 1:  # the policy is still the reference
                pair = by_id[row.example_id]
                answer, prompt = _log_likelihoods(*plain, pair, pair.chosen if good else pair.rejected, eos=False)
                assert row.log_prompt_perplexity == pytest.approx(-answer[: prompt - 1].mean().item(), abs=1e-5)
                assert policy == pytest.approx(answer[prompt - 1 :].sum().item(), abs=1e-3)
                assert row.prompt_tokens == prompt
        assert record["loss"] == pytest.approx(part.loss.mean(), abs=1e-6)
        assert record["rewards/chosen"] == pytest.approx(sum(rewards[True]) / 2, abs=1e-5)
        assert record["rewards/margins"] == pytest.approx((sum(rewards[True]) - sum(rewards[False])) / 2, abs=1e-5)
        assert record["dynamic_beta"] == pytest.approx(part.dynamic_beta.mean())
        assert record["log_prompt_perplexity"] == pytest.approx(part.log_prompt_perplexity.mean())
    assert rows.dynamic_beta.std() > 0 and steps[-1]["rewards/margins"] != 0
    assert rows.delta.isna().all() and "delta" not in steps[0]


@pytest.mark.parametrize(("objective", "loss"), CASES)
def test_the_step_follows_the_gradient_of_the_formula_with_the_perplexity_detached(
    tiny_model: Path, tmp_path: Path, plain: Any, objective: str, loss: str
) -> None:
    """One step of plain gradient descent against a float64 backward in which the betas are numbers."""
    descent = {
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_steps": 1,
        "max_grad_norm": 0.0,
        "learning_rate": 0.1,
    }
    job = make_job(tiny_model, tmp_path, "foodpo", params={**FOODPO, "pref_loss": loss}, training=descent)
    pairs = {pair.id: pair for pair in make_pairs()}
    _, _, rows = run(job, objective, list(pairs.values()))
    model, tokenizer = plain
    before = {key: value.clone() for key, value in model.state_dict().items()}
    nll, targets, terms = torch.zeros(()), 0, []
    for row in rows.itertuples():
        pair = pairs[row.example_id]
        if objective == "kto":  # the policy is still the reference: r = KL = 0, and the slope of the sigmoid is 1/4
            good = not math.isnan(row.policy_chosen_logp)
            answer, prompt = _log_likelihoods(model, tokenizer, pair, pair.chosen if good else pair.rejected, eos=False)
            beta = 0.5 * -answer[: prompt - 1].mean().item() * 0.4
            terms.append((-1 if good else 1) * beta / 4 * answer[prompt - 1 :].sum())
            continue
        chosen, prompt = _log_likelihoods(model, tokenizer, pair, pair.chosen, eos=True)
        rejected, _ = _log_likelihoods(model, tokenizer, pair, pair.rejected, eos=True)
        beta = 0.5 * -chosen[: prompt - 1].mean().item() * 0.4
        p_w, p_l = (part[prompt - 1 :].mean().exp() for part in (chosen, rejected))
        terms.append(-beta * torch.log(torch.sigmoid(torch.logit(p_w) - torch.logit(p_l))))
        nll, targets = nll - chosen.sum(), targets + len(chosen)
    (torch.stack(terms).mean() + nll / max(targets, 1)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    saved = weights_of(job)
    for name, gradient in gradients.items():
        moved = (before[name] - saved[name].double()) / 0.1
        assert torch.allclose(moved, gradient, atol=2e-4 * gradient.abs().max().item() + 2e-5), name


@pytest.mark.parametrize(("objective", "loss"), CASES)
def test_a_beta_per_example_that_is_constant_reduces_to_stock(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str, loss: str
) -> None:
    """With log PPL held at 1 and c = 1 every beta is pref_beta: another path through the code, the same training."""
    from trainers.rules.betas import FooDPO

    monkeypatch.setattr(FooDPO, "log_perplexity", lambda _, batch: (torch.ones_like(batch.log_ppl), batch.has_ppl))
    pairs, params = make_pairs(), {"pref_beta": 0.3, "pref_loss": loss}
    job = make_job(tiny_model, tmp_path / "ours", "foodpo", params={**params, "pref_beta_scale": 1.0})
    stock, weights = stock_run(
        make_job(tiny_model, tmp_path / "job", params=params), objective, pairs, tmp_path / "stock"
    )
    _, ours, rows = run(job, objective, pairs)
    assert rows.dynamic_beta.to_numpy() == pytest.approx(0.3)
    for mine, theirs in zip(ours, stock, strict=True):
        for key in ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/margins"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-5, abs=1e-6), key
    saved = weights_of(job)
    assert all(torch.allclose(value, weights[key], atol=1e-5) for key, value in saved.items())


@pytest.mark.parametrize("objective", ["kto", "orpo"])
def test_the_policy_runs_once_for_the_loss_and_the_perplexity(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    calls: list[bool] = []
    original = LlamaModel.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    short = {"max_steps": 3}
    run(make_job(tiny_model, tmp_path, "foodpo", params=FOODPO, training=short), objective, make_pairs())
    ours = list(calls)
    calls.clear()
    params = {"pref_beta": 0.4, "pref_loss": OBJECTIVES[objective].pref_losses[0]}
    training = {**short, "precompute_ref_log_probs": True} if objective == "kto" else short
    job = make_job(tiny_model, tmp_path / "job", params=params, training=training)
    stock_run(job, objective, make_pairs(), tmp_path / "stock")
    assert ours == calls and sum(ours) == 3


@pytest.mark.parametrize("objective", ["kto", "orpo"])
def test_pairs_without_room_for_an_answer_are_dropped(tiny_model: Path, tmp_path: Path, objective: str) -> None:
    long = [{"role": "user", "content": "x" * 200}]
    pairs = [
        *make_pairs(8),
        PreferencePair("long", long, *(make_pairs(1)[0].chosen, make_pairs(1)[0].rejected), "long"),
    ]
    result, steps, rows = run(make_job(tiny_model, tmp_path, "foodpo", training={"max_steps": 4}), objective, pairs)
    assert result["dropped_examples"] == (2 if objective == "kto" else 1)
    assert "long" not in set(rows.example_id) and rows.loss.notna().all()
    assert all(math.isfinite(record["loss"]) for record in steps)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model: Path, tmp_path: Path) -> None:
    from trainers.trainer.recorded import DivergedError

    job = make_job(
        tiny_model, tmp_path, "foodpo", training={"learning_rate": 1e30, "max_steps": 8, "max_grad_norm": 0.0}
    )
    with pytest.raises(DivergedError, match=r"at step \d+; no earlier checkpoint exists"):
        train(job, make_pairs(), lambda _: None, "orpo")


def test_unpaired_rows_alternate_and_no_neighbour_shares_a_prompt() -> None:
    pairs = make_pairs(16)
    rows, ids = unpaired_rows(pairs, seed=3), row_ids(pairs)
    assert sorted(row["example_index"] for row in rows) == list(range(32))
    assert [row["label"] for row in rows] == [True, False] * 16
    for row in rows:
        pair = next(pair for pair in pairs if pair.id == ids[row["example_index"]])
        assert row["prompt"] == pair.prompt
        assert row["completion"] == (pair.chosen if row["label"] else pair.rejected)
        assert row["label"] == (row["example_index"] % 2 == 0)
    for size in (2, 4, 8):  # TRL gives each row the answer of the row before it, the first one that of the last
        for start in range(0, 32, size):
            batch = [row["example_index"] // 2 for row in rows[start : start + size]]
            assert all(batch[i] != batch[i - 1] for i in range(size))
    assert unpaired_rows(pairs, seed=3) == rows != unpaired_rows(pairs, seed=4)


@pytest.mark.parametrize(
    ("objective", "rule", "params", "message"),
    [
        ("kot", "fixed", {}, "objective is 'kot'; did you mean 'kto'"),
        ("kto", "beta_dpo", {}, "rule 'beta_dpo' has no meaning for objective 'kto'.*use rule fixed or foodpo"),
        ("orpo", "beta_head", {}, "rule 'beta_head' has no meaning for objective 'orpo'"),
        ("kto", "fixed", {"pref_loss": "hinge"}, "pref_loss is 'hinge'; objective 'kto' has kto and apo_zero_unpaired"),
        ("orpo", "fixed", {"pref_loss": "sigmoid"}, "pref_loss is 'sigmoid'; objective 'orpo' has orpo: remove"),
        ("kto", "foodpo", {"ppl_of": "response"}, "ppl_of is 'response'; with objective 'kto' it can only be 'prompt'"),
        ("orpo", "foodpo", {"attach_ppl": True}, "attach_ppl is True; with objective 'orpo' it can only be False"),
    ],
)
def test_wrong_combinations_are_refused(objective: str, rule: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        validate(objective, rule, params)


def test_rules_own_errors_and_defaults_stay() -> None:
    with pytest.raises(RuleError, match="did you mean 'pref_beta_scale'"):
        validate("kto", "foodpo", {"pref_beta_scal": 1})
    with pytest.raises(RuleError, match="did you mean 'foodpo'"):
        validate("orpo", "fodpo", {})
    assert validate("kto", "fixed", {}) == {"pref_beta": 0.1, "pref_loss": "kto"}
    assert validate("orpo", "foodpo", {})["pref_beta_scale"] == 0.5
    assert validate("dpo", "beta_head", {"pref_loss": "hinge"})["pref_loss"] == "hinge"


@pytest.mark.parametrize(
    ("objective", "training", "message"),
    [
        ("kto", {"per_device_train_batch_size": 1}, "per_device_train_batch_size is 1; KTO estimates its KL term"),
        ("kto", {"train_sampling_strategy": "random"}, "train_sampling_strategy is 'random'; KTO's KL term"),
        ("kto", {"sync_ref_model": True, "precompute_ref_log_probs": True}, "precompute_ref_log_probs is true, but"),
    ],
)
def test_wrong_training_settings_are_refused(
    tiny_model: Path, tmp_path: Path, objective: str, training: dict[str, Any], message: str
) -> None:
    job = make_job(tiny_model, tmp_path, params={"pref_beta": 0.1}, training=training)
    with pytest.raises(ObjectiveError, match=message):
        train(job, make_pairs(), lambda _: None, objective)


def test_the_table_of_objectives_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, trainers.run.objectives as o; o.validate('kto', 'foodpo', {}); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
