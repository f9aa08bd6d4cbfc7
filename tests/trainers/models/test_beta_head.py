"""The model class of `beta_head`: its order of outputs, padding, save and load, and the betas that training recorded."""

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainers.helpers import make_pairs, rows_of, trained
from trainers.formats.pairs import PreferencePair
from trainers.models.beta_head import AutoModelForCausalLMWithBetaHead, BetaHeadError
from trainers.rules import catalogue
from trainers.rules.catalogue import RuleError
from trainers.run.job import TrainJob
from trainers.run.save import save_rule
from trainers.tiny import build_tiny_model

Model = AutoModelForCausalLMWithBetaHead
AGGREGATIONS = ["last_prompt_token", "mean_prompt", "last_completion_token"]
PAD = 2
PROMPTS = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32]]
COMPLETIONS = [[40, 41], [50, 51, 52, 53], [60]]


def randomised(model: Model) -> Model:
    """Give the head weights, so that beta depends on the hidden state."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight = model.beta_head.value.weight
        weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def fresh(path: Path, **kwargs: Any) -> Model:
    with pytest.warns(UserWarning, match="no beta head"):
        return Model.from_pretrained(path, **kwargs)


def padded(side: str) -> tuple[Tensor, Tensor, Tensor]:
    """input_ids, attention_mask, prompt_mask (3, L) of the prompts and completions above."""
    rows = [prompt + completion for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True)]
    length = max(map(len, rows))
    ids, attention, prompt_mask = (torch.zeros(len(rows), length, dtype=torch.long) for _ in range(3))
    ids.fill_(PAD)
    for i, (row, prompt) in enumerate(zip(rows, PROMPTS, strict=True)):
        start = 0 if side == "right" else length - len(row)
        ids[i, start : start + len(row)] = torch.tensor(row)
        attention[i, start : start + len(row)] = 1
        prompt_mask[i, start : start + len(prompt)] = 1
    return ids, attention, prompt_mask


def expected_beta(model: Model, prompt: list[int], completion: list[int]) -> float:
    """By formula in float64, from the hidden states of one row without padding."""
    row = torch.tensor([prompt + completion])
    hidden = model.policy(input_ids=row, output_hidden_states=True).hidden_states[-1][0].detach().double()
    n, how = len(prompt), model.params["aggregation"]
    h = {"last_prompt_token": hidden[n - 1], "mean_prompt": hidden[:n].mean(0), "last_completion_token": hidden[-1]}[
        how
    ]
    normal = (h - h.mean()) / torch.sqrt(h.var(correction=0) + 1e-5)
    z = float(normal @ model.beta_head.value.weight[0].double() + model.beta_head.value.bias.double())
    return float(np.clip(np.logaddexp(0, z), 0.1 * 0.2, 10 * 0.2))


# -- forward ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_beta_is_the_formula_on_either_padding(tiny_model: Path, side: str, aggregation: str) -> None:
    model = randomised(fresh(tiny_model, aggregation=aggregation, pref_beta=0.2))
    ids, attention, prompt_mask = padded(side)
    expected = [expected_beta(model, p, c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    assert len({round(beta, 4) for beta in expected}) == 3
    by_mask = model(ids, attention, prompt_mask=prompt_mask).beta
    by_length = model(ids, attention, prompt_lengths=torch.tensor([len(p) for p in PROMPTS])).beta
    assert by_mask.shape == (3,) and by_mask.dtype == torch.float32
    assert by_mask.tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(by_mask, by_length)


@torch.no_grad()
def test_the_prompt_alone_has_the_beta_of_the_prompt_with_its_answer(tiny_model: Path) -> None:
    model = randomised(fresh(tiny_model))
    alone = [float(model(torch.tensor([prompt])).beta) for prompt in PROMPTS]
    ids, attention, prompt_mask = padded("right")
    assert model(ids, attention, prompt_mask=prompt_mask).beta.tolist() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_order_of_outputs_and_agreement_with_the_policy(tiny_model: Path, side: str) -> None:
    model = randomised(fresh(tiny_model))
    ids, attention, prompt_mask = padded(side)
    labels = ids.masked_fill(attention == 0, -100)
    logits, loss, beta, *rest = model(ids, attention, labels=labels, prompt_mask=prompt_mask, output_hidden_states=True)
    positions = (attention.cumsum(1) - 1).clamp_min(0)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)(
        ids, attention_mask=attention, labels=labels, position_ids=positions, output_hidden_states=True
    )
    seen = attention.bool()
    assert torch.equal(logits[seen], plain.logits[seen]) and torch.equal(loss, plain.loss) and beta.shape == (3,)
    cache, hidden_states, attentions = rest
    assert cache.get_seq_length() == ids.size(1) and len(hidden_states) == 3 and attentions is None
    without = model(ids, attention, prompt_mask=prompt_mask)
    assert without.loss is None and without[1] is None and without.hidden_states is None
    assert torch.equal(without[0], logits) and torch.equal(without[2], beta)


def test_gradients_reach_the_head_and_the_policy_only_if_asked(tiny_model: Path) -> None:
    ids, attention, prompt_mask = padded("right")
    for asked in (False, True):
        policy = AutoModelForCausalLM.from_pretrained(tiny_model)
        model = randomised(Model(policy, head_gradient_to_policy=asked))
        model(ids, attention, prompt_mask=prompt_mask).beta.sum().backward()
        assert float(model.beta_head.value.weight.grad.norm()) > 0
        assert any(p.grad is not None and bool(p.grad.any()) for p in policy.parameters()) is asked


@torch.no_grad()
def test_bounds_hold(tiny_model: Path) -> None:
    model = fresh(tiny_model, pref_beta=0.2)
    for bias, bound in ((-20.0, 0.02), (20.0, 2.0)):
        model.beta_head.value.bias.fill_(bias)
        assert model(torch.tensor(PROMPTS[:1])).beta.tolist() == pytest.approx([bound])


@torch.no_grad()
def test_beta_stays_float32_in_bf16(tiny_model: Path) -> None:
    model = fresh(tiny_model, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.tensor(PROMPTS[:1]))
    assert output.lm_logits.dtype == torch.bfloat16 and output.beta.dtype == torch.float32
    assert output.beta.tolist() == pytest.approx([0.1], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt_lengths": torch.tensor([1]), "prompt_mask": torch.ones(1, 3)}, "not both"),
        ({"prompt_lengths": torch.tensor([0])}, "row 0 has no prompt token"),
        ({"attention_mask": torch.ones(1, 5)}, "the whole prompt in one call"),
    ],
)
def test_calls_without_a_meaning_are_refused(tiny_model: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fresh(tiny_model)(torch.tensor([PROMPTS[2]]), **arguments)


def test_generate_is_the_policys(tiny_model: Path) -> None:
    ids = torch.tensor(PROMPTS[:1])
    model = randomised(fresh(tiny_model))
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    settings = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(ids, **settings), plain.generate(ids, **settings))


# -- save and load ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_round_trip_is_exact(tiny_model: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = randomised(fresh(tiny_model, aggregation="mean_prompt", pref_beta=0.2, dtype=dtype))
    ids, attention, prompt_mask = padded("left")
    before = model(ids, attention, prompt_mask=prompt_mask)
    model.save_pretrained(tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = Model.from_pretrained(tmp_path / "saved")
    after = loaded(ids, attention, prompt_mask=prompt_mask)
    assert loaded.params == model.params and not loaded.training
    assert torch.equal(before.beta, after.beta) and torch.equal(before.lm_logits, after.lm_logits)


@torch.no_grad()
def test_the_policy_is_saved_without_the_head(tiny_model: Path, tmp_path: Path) -> None:
    model, saved = randomised(fresh(tiny_model)), tmp_path / "saved"
    model.save_pretrained(saved)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    plain.save_pretrained(tmp_path / "plain")
    top = sorted(path.name for path in saved.iterdir() if path.is_file())
    assert top == sorted(path.name for path in (tmp_path / "plain").iterdir())
    kept, weights = load_file(saved / "model.safetensors"), load_file(tmp_path / "plain" / "model.safetensors")
    assert set(kept) == set(weights) and all(torch.equal(kept[key], weights[key]) for key in weights)
    assert sorted(path.name for path in (saved / "beta_head").iterdir()) == ["beta_head.json", "beta_head.safetensors"]
    again, report = AutoModelForCausalLM.from_pretrained(saved, output_loading_info=True)
    assert not report["unexpected_keys"] and not report["missing_keys"]
    ids = torch.tensor(PROMPTS[:1])
    assert torch.equal(again(ids).logits, plain(ids).logits)


def test_a_second_save_replaces_the_first_and_leaves_other_files(tiny_model: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    fresh(tiny_model).save_pretrained(tmp_path)
    randomised(fresh(tiny_model, pref_beta=0.3)).save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    assert loaded.params["pref_beta"] == 0.3 and bool(loaded.beta_head.value.weight.any())
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template


@torch.no_grad()
def test_a_peft_policy(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    policy = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False),
    )
    model = randomised(Model(policy)).eval()
    ids, attention, prompt_mask = padded("right")
    with_adapter = model(ids, attention, prompt_mask=prompt_mask)
    with policy.disable_adapter():
        without = model(ids, attention, prompt_mask=prompt_mask)
    assert not torch.equal(with_adapter.beta, without.beta)
    assert model.generate(ids[:1], max_new_tokens=2, do_sample=False).shape == (1, ids.size(1) + 2)

    model.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    loaded = Model.from_pretrained(tmp_path / "adapter")(ids, attention, prompt_mask=prompt_mask)
    assert torch.equal(loaded.beta, with_adapter.beta) and torch.equal(loaded.lm_logits, with_adapter.lm_logits)

    model.policy = policy.merge_and_unload()
    model.save_pretrained(tmp_path / "merged")
    merged = Model.from_pretrained(tmp_path / "merged")(ids, attention, prompt_mask=prompt_mask)
    assert merged.beta.tolist() == pytest.approx(with_adapter.beta.tolist(), rel=1e-4)


# -- what is missing or wrong ----------------------------------------------------------------------------------


@torch.no_grad()
def test_without_a_head_beta_starts_at_pref_beta(tiny_model: Path) -> None:
    with pytest.warns(UserWarning, match=r"a new one gives every prompt the beta 0\.3 until it is trained"):
        model = Model.from_pretrained(tiny_model, pref_beta=0.3)
    ids, attention, prompt_mask = padded("right")
    assert model(ids, attention, prompt_mask=prompt_mask).beta.tolist() == pytest.approx([0.3] * 3, rel=1e-6)
    assert model.params["aggregation"] == "last_prompt_token"


@pytest.mark.parametrize(
    ("arguments", "message"), [({"aggregation": "max"}, "aggregation"), ({"pref_beta": -1.0}, "pref_beta")]
)
def test_a_bad_parameter_is_named(tiny_model: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError, match=message):
        Model.from_pretrained(tiny_model, **arguments)


@pytest.fixture(scope="module")
def saved_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    fresh(tiny_model, pref_beta=0.2).save_pretrained(path)
    return path


NARROW = {"value.weight": torch.zeros(1, 8), "value.bias": torch.zeros(1)}


@pytest.mark.parametrize(
    ("file", "damaged", "message"),
    [
        (
            "beta_head.json",
            lambda old: old.replace(b'"beta_head"', b'"learnable"'),
            "beta_head.json: written by rule 'learnable'",
        ),
        (
            "beta_head.json",
            lambda old: old.replace(b'"last_prompt_token"', b'"max"'),
            "beta_head.json: aggregation of rule 'beta_head' is 'max'",
        ),
        ("beta_head.json", lambda old: b"{", "beta_head.json: not a JSON object with rule and params"),
        (
            "beta_head.json",
            None,
            "no beta_head.json beside it says how the head was trained; give aggregation=, pref_beta=",
        ),
        (
            "beta_head.safetensors",
            lambda old: old[:20],
            "beta_head.safetensors: not a safetensors file that can be read",
        ),
        (
            "beta_head.safetensors",
            lambda old: save({"k": torch.zeros(())}),
            "beta_head.safetensors: holds k; a head of rule 'beta_head' holds",
        ),
        (
            "beta_head.safetensors",
            lambda old: save(NARROW),
            "a head for hidden states of width 8; those of .* have 32",
        ),
    ],
)
def test_a_damaged_head_is_named(
    saved_model: Path, tmp_path: Path, file: str, damaged: Callable[[bytes], bytes] | None, message: str
) -> None:
    copy = shutil.copytree(saved_model, tmp_path / "copy")
    path = copy / "beta_head" / file
    before = path.read_bytes()
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged(before))
        assert path.read_bytes() != before
    with pytest.raises(BetaHeadError, match=message):
        Model.from_pretrained(copy)


def test_what_is_asked_for_must_agree_with_the_saved_head(saved_model: Path) -> None:
    assert Model.from_pretrained(saved_model, aggregation="last_prompt_token", pref_beta=0.2).params["pref_beta"] == 0.2
    with pytest.raises(BetaHeadError, match=r"trained with pref_beta 0\.2, not 0\.1"):
        Model.from_pretrained(saved_model, pref_beta=0.1)


# -- runs of this project --------------------------------------------------------------------------------------


def run(model: Path, out: Path, steps: int, aggregation: str, **changes: Any) -> TrainJob:
    params = {"pref_beta": 0.1, "aggregation": aggregation, "head_learning_rate": 0.02}
    training = {"max_steps": steps, "lr_scheduler_type": "constant", "save_strategy": "no"}
    return trained(model, out, "beta_head", params=params, training=training, **changes)


def recomputed(model: Model, tokenizer: Any, pairs: list[PreferencePair]) -> dict[str, float]:
    """Beta of every pair as the class gives it for prompt and chosen answer, by id."""
    found = {}
    for pair in pairs:
        prompt = tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template([*pair.prompt, *pair.chosen], return_dict=False)
        assert whole[: len(prompt)] == prompt
        with torch.no_grad():
            found[pair.id] = float(model(torch.tensor([whole]), prompt_lengths=torch.tensor([len(prompt)])).beta)
    return found


LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


@pytest.mark.parametrize(
    ("aggregation", "changes"),
    [
        ("last_prompt_token", {}),
        ("mean_prompt", {}),
        ("last_completion_token", {}),
        ("last_prompt_token", {"prefix_sharing": False}),
        ("last_prompt_token", {"lora": LORA}),
    ],
)
def test_betas_of_a_trained_run_are_those_it_recorded(
    tiny_model: Path, tmp_path: Path, aggregation: str, changes: dict[str, Any]
) -> None:
    """The fourth step records the betas of the weights that three steps leave behind."""
    run(tiny_model, tmp_path / "three", 3, aggregation, **changes)
    rows = rows_of(run(tiny_model, tmp_path / "four", 4, aggregation, **changes))
    recorded = rows[rows["step"] == 4].set_index("example_id")["dynamic_beta"]
    assert len(recorded) == 4 and float(recorded.std() / recorded.mean()) > 0.01
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for path in (tmp_path / "three", tmp_path / "three" / "policy"):
        model = Model.from_pretrained(path, aggregation=aggregation, pref_beta=0.1)
        betas = recomputed(model, tokenizer, make_pairs())
        assert [betas[name] for name in recorded.index] == pytest.approx(recorded.tolist(), rel=1e-5)


def test_a_run_says_how_its_head_was_trained(tiny_model: Path, tmp_path: Path) -> None:
    run(tiny_model, tmp_path, 1, "mean_prompt")
    model = Model.from_pretrained(tmp_path)
    assert model.params["aggregation"] == "mean_prompt" and model.params["head_learning_rate"] == 0.02


def test_the_state_of_another_rule_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "policy")
    save_rule(catalogue.build("learnable", {}, 32), "learnable", {}, tmp_path)
    with pytest.raises(BetaHeadError, match="written by rule 'learnable'"):
        Model.from_pretrained(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_loads_what_was_saved(tmp_path: Path) -> None:
    from evals.engine.base import EngineConfig, Sampling
    from evals.engine.vllm_engine import VllmEngine

    plain = build_tiny_model(tmp_path / "plain", hidden_size=128)  # vLLM wants heads of width 32 at least
    saved = tmp_path / "saved"
    randomised(fresh(plain)).save_pretrained(saved)
    AutoTokenizer.from_pretrained(plain).save_pretrained(saved)
    prompt = PROMPTS[0] * 4
    expected = AutoModelForCausalLM.from_pretrained(plain).generate(
        torch.tensor([prompt]), max_new_tokens=8, min_new_tokens=8, do_sample=False
    )[0, len(prompt) :]
    engine = VllmEngine(saved, EngineConfig(dtype="float32", max_model_len=128, kv_cache_gib=1))
    try:
        answer = engine.generate([prompt], Sampling(max_tokens=8))[0]
    finally:
        engine.close()
    assert answer.token_ids[:4] == expected.tolist()[:4]
