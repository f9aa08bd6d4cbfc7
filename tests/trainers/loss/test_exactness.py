"""A constant rule is stock TRL to the last bit; prefix sharing changes nothing but the last bits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.helpers import logged, make_job, make_pairs, rows_of, stock_run, weights_of
from trainers.run.train import train

LORA = {"r": 4, "target_modules": "all-linear"}
IN_LOOP = {"precompute_ref_log_probs": False}


@pytest.mark.parametrize(
    ("lora", "training"),
    [
        (None, {}),
        (None, IN_LOOP),
        (LORA, {}),
        (LORA, IN_LOOP),
        (None, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}),
        (None, {"ld_alpha": 0.5}),
        (None, {"f_divergence_type": "js_divergence"}),
        (None, {"gradient_checkpointing": True}),
        (None, {"max_length": 30, "truncation_mode": "keep_start"}),
    ],
    ids=str,
)
def test_constant_rule_is_bit_identical_to_stock_trl(
    tiny_model: Path, tmp_path: Path, lora: Any, training: dict[str, Any]
) -> None:
    pairs, cached = make_pairs(), training is not IN_LOOP
    job = make_job(tiny_model, tmp_path / "ours", lora=lora, prefix_sharing=False, training=training)
    stock, weights = stock_run(job, "dpo", pairs, tmp_path / "stock", precompute_ref_log_probs=cached)
    assert train(job, pairs, lambda _: None)["reference_in_loop"] is not cached
    ours = logged(job)
    for step in range(4):
        for key in ("loss", "grad_norm", "rewards/margins", "rewards/accuracies", "logps/chosen", "entropy"):
            assert ours[step][key] == stock[step][key], (step, key)
    for key, value in weights_of(job).items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize("rule", ["foodpo", "learnable", "beta_head"])
def test_prefix_sharing_changes_no_result(tiny_model: Path, tmp_path: Path, rule: str) -> None:
    frames, losses = [], []
    for sharing in (False, True):
        job = make_job(tiny_model, tmp_path / f"{sharing}", rule, prefix_sharing=sharing)
        result = train(job, make_pairs(), lambda _: None)
        assert result["prefix_sharing"] is sharing
        frames.append(rows_of(job))
        losses.append([record["loss"] for record in logged(job)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert list(frames[0].example_id) == list(frames[1].example_id)
    for column in ("log_prompt_perplexity", "dynamic_beta", "policy_chosen_logp", "ref_rejected_logp", "delta", "loss"):
        assert frames[0][column].to_numpy() == pytest.approx(frames[1][column].to_numpy(), abs=2e-3), column


def test_prompt_perplexity_equals_a_plain_forward(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = make_job(tiny_model, tmp_path, "foodpo", training={"max_steps": 1})
    pairs = make_pairs()
    train(job, pairs, lambda _: None)
    rows = rows_of(job)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    by_id = {pair.id: pair for pair in pairs}
    for row in rows.itertuples():
        text = tokenizer.apply_chat_template(by_id[row.example_id].prompt, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            expected = model(ids, labels=ids).loss.item()
        assert row.prompt_tokens == ids.shape[1]
        assert row.log_prompt_perplexity == pytest.approx(expected, abs=1e-5)
        assert row.dynamic_beta == pytest.approx(0.5 * expected * 0.1, abs=1e-6)


def test_reference_is_computed_once_for_all_runs(tiny_model: Path, tmp_path: Path) -> None:
    pairs = make_pairs()
    shared = tmp_path / "reference"
    first = train(make_job(tiny_model, tmp_path / "a", reference_root=shared), pairs, lambda _: None)
    again = make_job(tiny_model, tmp_path / "b", "foodpo", reference_root=shared, seed=7, params={"pref_beta": 0.3})
    assert first["reference_forwards"] > 0
    assert train(again, pairs, lambda _: None)["reference_forwards"] == 0
    other_weights = make_job(tiny_model, tmp_path / "c", reference_root=shared, weights_hash="other")
    assert train(other_weights, pairs, lambda _: None)["reference_forwards"] > 0
    shorter = make_job(tiny_model, tmp_path / "d", reference_root=shared, training={"max_length": 40})
    assert train(shorter, pairs, lambda _: None)["reference_forwards"] > 0
