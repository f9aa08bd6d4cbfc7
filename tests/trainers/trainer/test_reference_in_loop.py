"""The reference computed in every step: the same numbers as from the store, and what only it can give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainers.helpers import make_pairs, rows_of, trained

LORA = {"r": 4, "target_modules": "all-linear"}


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("sharing", [False, True])
def test_store_and_loop_agree(tiny_model: Path, tmp_path: Path, lora: Any, sharing: bool) -> None:
    frames = []
    for cached in (True, False):
        job = trained(
            tiny_model,
            tmp_path / str(cached),
            "mallows",
            lora=lora,
            prefix_sharing=sharing,
            training={"precompute_ref_log_probs": cached},
        )
        frames.append(rows_of(job))
    for column in ("ref_chosen_logp", "ref_rejected_logp", "delta", "dynamic_beta", "loss"):
        assert frames[0][column].to_numpy() == pytest.approx(frames[1][column].to_numpy(), abs=2e-4), column
    assert frames[0].dynamic_beta.std() > 0


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("sharing", [False, True])
def test_epsilon_dpo_steps_equal_a_plain_computation(
    tiny_model: Path, tmp_path: Path, lora: Any, sharing: bool
) -> None:
    """The steps behind the recorded betas, from the saved policy's weights and the reference's, in float64."""
    settings: dict[str, Any] = {"lora": lora, "prefix_sharing": sharing, "params": {"pref_beta": 0.2, "epsilon": 0.3}}
    still = {"max_steps": 2, "learning_rate": 0.0}
    job = trained(tiny_model, tmp_path, "epsilon_dpo", training=still, **settings)
    rows = rows_of(job)
    # the policy is the reference, so every perturbation leaves the log-ratio where it is, and rounding makes no step
    assert (rows.dynamic_beta - 0.2).abs().max() < 1e-7

    steps = {"max_steps": 3, "learning_rate": 5e-3, "save_steps": 2, "save_total_limit": 3}
    rows = rows_of(trained(tiny_model, tmp_path / "moving", "epsilon_dpo", training=steps, **settings))
    pairs = {pair.id: pair for pair in make_pairs()}
    folder = tmp_path / "moving" / "checkpoints" / "checkpoint-2"
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    if lora:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    from safetensors.torch import load_file

    current = float(load_file(folder / "rule.safetensors")["current"])
    checked = 0
    for row in rows[rows.step == 3].itertuples():
        ratios = np.zeros(3)
        for sign, answer in ((1, "chosen"), (-1, "rejected")):
            prompt = tokenizer.apply_chat_template(pairs[row.example_id].prompt, add_generation_prompt=True)[
                "input_ids"
            ]
            turns = pairs[row.example_id].prompt + getattr(pairs[row.example_id], answer)
            whole = torch.tensor([tokenizer.apply_chat_template(turns)["input_ids"]])
            with torch.no_grad():
                z, z_ref = (m(whole).logits[0, len(prompt) - 1 : -1].double() for m in (model, reference))
            target = whole[0, len(prompt) :, None]
            for kind, logits in enumerate((z, 1.3 * z - 0.3 * z_ref, 0.7 * z + 0.3 * z_ref)):
                ratios[kind] += sign * float(torch.log_softmax(logits, -1).gather(-1, target).sum())
        now, away, towards = ratios
        if min(abs(now - away), abs(now - towards)) < 1e-3:
            continue  # too close for float32 to decide
        checked += 1
        step = 1 if away > now > towards else -1 if towards > now > away else 0
        assert row.dynamic_beta == pytest.approx(current / (1 + 0.3 * step), rel=1e-5)
    assert checked >= 3


def test_whose_words_count(tiny_model: Path, tmp_path: Path) -> None:
    """`ppl_tokens: user` leaves the chat template's tokens out of the prompt's perplexity, in both layouts."""
    pairs = {pair.id: pair for pair in make_pairs()}
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for sharing in (True, False):
        job = trained(
            tiny_model,
            tmp_path / str(sharing),
            "foodpo",
            prefix_sharing=sharing,
            params={"pref_beta": 0.1, "ppl_tokens": "user"},
            training={"max_steps": 1},
        )
        for row in rows_of(job).itertuples():
            content = pairs[row.example_id].prompt[0]["content"]
            text = tokenizer.apply_chat_template(
                pairs[row.example_id].prompt, add_generation_prompt=True, tokenize=False
            )
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            before = len(tokenizer(text[: text.index(content)], add_special_tokens=False).input_ids)
            count = len(tokenizer(content, add_special_tokens=False).input_ids)  # bytes: no merges across the border
            with torch.no_grad():
                logp = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None]).squeeze(-1)
            expected = -float(logp[before - 1 : before - 1 + count].mean())
            assert row.log_prompt_perplexity == pytest.approx(expected, abs=1e-4)
            assert row.dynamic_beta == pytest.approx(0.05 * expected, abs=1e-5)
