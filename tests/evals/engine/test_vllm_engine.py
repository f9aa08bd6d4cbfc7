"""The real vLLM engine on the embedded model, held against transformers. One engine serves the whole module."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks.base import Visit
from evals.engine.base import EngineConfig, EngineError, Sampling
from evals.engine.chat import chat_ids
from evals.engine.swap_check import check_swap
from evals.lm_eval.run import run_task
from evals.preferences.sampling import make_sampler
from tests.evals.benchmarks.scored import entry, policy_entry
from tests.evals.lm_eval.test_lm_parity import FILES, LIMIT, write_tasks
from tests.evals.weights import edited

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
CONFIG = EngineConfig(dtype="float32", max_model_len=384, kv_cache_gib=1)
TENSOR = "model.layers.7.mlp.down_proj.weight"
QUESTIONS = ["What is the capital of France?", "Name three fruits.", "Write a sentence about rain.", "What is 2 + 3?"]


def barely_trained(weights: dict[str, Any]) -> None:
    weights[TENSOR][:4] *= 1.02


@pytest.fixture(scope="module")
def model_dir() -> Path:
    from trainers.models.embedded import prepare_model

    return prepare_model("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> Iterator[Any]:
    from evals.engine.vllm_engine import VllmEngine

    engine = VllmEngine(model_dir, CONFIG)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> Any:
    from evals.engine.transformers_engine import TransformersEngine

    return TransformersEngine(model_dir, CONFIG)


def test_the_model_knows_paris(engine: Any) -> None:
    answer = engine.generate([chat_ids(engine.tokenizer, QUESTIONS[0])], Sampling(max_tokens=12))[0]
    assert "Paris" in answer.text


def test_greedy_answers_and_logprobs_agree_with_transformers(engine: Any, reference: Any) -> None:
    prompts = [chat_ids(engine.tokenizer, question) for question in QUESTIONS]
    ours = engine.generate(prompts, Sampling(max_tokens=12))
    theirs = reference.generate(prompts, Sampling(max_tokens=12))
    same = [a.token_ids == b.token_ids for a, b in zip(ours, theirs, strict=True)]
    assert sum(same) >= len(same) - 1, "float32 greedy answers may differ on a near tie, not more"
    for a, b, equal in zip(ours, theirs, same, strict=True):
        assert a.finish_reason == b.finish_reason or not equal
        if equal:
            assert a.logprobs == pytest.approx(b.logprobs, abs=2e-3)


def test_loglikelihoods_agree_with_transformers(engine: Any, reference: Any) -> None:
    encode = engine.tokenizer
    requests = [
        (encode("The capital of France is")["input_ids"], encode(" Paris", add_special_tokens=False)["input_ids"]),
        (
            encode("The capital of France is")["input_ids"],
            encode(" a small dog", add_special_tokens=False)["input_ids"],
        ),
    ]
    for (ours, greedy), (theirs, expected) in zip(
        engine.loglikelihood(requests), reference.loglikelihood(requests), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=5e-3)
        assert greedy == expected


def test_verdicts_on_multiple_choice_are_those_of_transformers_but_for_near_ties(
    engine: Any, reference: Any, shared_data: Path, tmp_path: Path
) -> None:
    """Which are those of lm-eval's own `hf` model: see `tests/evals/lm_eval/test_lm_parity.py`."""
    tasks = write_tasks(tmp_path, shared_data / "benchmarks")
    for task in FILES:
        about = entry(task, "lm_eval", task=f"local_{task}", include_path=tasks, limit=LIMIT, num_fewshot=0)
        visits = [Visit(one, policy_entry("p", Path()), about, None, lambda **_: None) for one in (engine, reference)]
        ours, theirs = (run_task(visit, again=True) for visit in visits)  # which keeps nothing
        for metric in ("acc", "acc_norm"):
            pairs = zip(ours["items"], theirs["items"], strict=True)
            assert sum(a["values"][metric] != b["values"][metric] for a, b in pairs) <= 1, (task, metric)


def test_a_seeded_sample_does_not_depend_on_its_batch(engine: Any) -> None:
    sampler = make_sampler(engine, max_new_tokens=8, temperature=1.0)
    together = sampler(QUESTIONS, 2, 7)
    alone = sampler(QUESTIONS[2:3], 2, 7)
    assert [c.text for c in together[2]] == [c.text for c in alone[0]]
    assert len({c.seed for row in together for c in row}) == 8


def test_swap_is_proved_and_a_swap_that_did_not_happen_is_found(engine: Any, model_dir: Path, tmp_path: Path) -> None:
    import torch

    def shaken(weights: dict[str, Any]) -> None:
        noise = torch.randn(weights[TENSOR].shape, generator=torch.Generator().manual_seed(0))
        weights[TENSOR] = (weights[TENSOR] + 0.05 * noise).to(weights[TENSOR].dtype)

    changed = edited(model_dir, tmp_path / "changed", shaken)
    base = check_swap(engine, model_dir, "float32", None)
    with pytest.raises(EngineError, match="does not serve these weights"):
        check_swap(engine, changed, "float32", base)
    assert engine.swap(changed) < 30
    moved = check_swap(engine, changed, "float32", base)
    assert moved.distinguishable and abs(moved.engine - base.engine) > moved.tolerance
    engine.swap(model_dir)
    assert check_swap(engine, model_dir, "float32", moved).engine == pytest.approx(base.engine, abs=1e-4)


def test_a_swap_that_did_nothing_is_noticed_between_policies_that_hardly_differ(
    engine: Any, model_dir: Path, tmp_path: Path
) -> None:
    """Runs of two beta rules can differ by less than the tolerance between vLLM and transformers."""
    trained = edited(model_dir, tmp_path / "trained", barely_trained)
    engine.swap(model_dir)
    base = check_swap(engine, model_dir, "float32")
    unswapped = check_swap(engine, trained, "float32")
    assert abs(unswapped.engine - unswapped.expected) < unswapped.tolerance, "must hide in the tolerance"
    with pytest.raises(EngineError, match="still answers like the policy before it"):
        check_swap(engine, trained, "float32", base)
    engine.swap(trained)
    moved = check_swap(engine, trained, "float32", base)
    assert moved.distinguishable
    assert moved.engine_difference == pytest.approx(moved.policy_difference, rel=0.2)
    engine.swap(model_dir)
    back = check_swap(engine, model_dir, "float32", moved)
    assert back.engine_tokens[0] == pytest.approx(base.engine_tokens[0])


def test_a_head_tied_to_the_embeddings_is_swapped_with_them(engine: Any, model_dir: Path, tmp_path: Path) -> None:
    """A checkpoint holds tied weights once, under the embeddings' name; vLLM keeps a packed copy of the head on CPUs."""

    def move_embeddings(weights: dict[str, Any]) -> None:
        weights["model.embed_tokens.weight"][::2] *= 1.05

    moved = edited(model_dir, tmp_path / "moved", move_embeddings)
    engine.swap(model_dir)
    base = check_swap(engine, model_dir, "float32")
    engine.swap(moved)
    check = check_swap(engine, moved, "float32", base)
    assert check.distinguishable and check.largest_difference < 2e-3
    engine.swap(model_dir)
    back = check_swap(engine, model_dir, "float32", check)
    assert back.engine_tokens[0] == pytest.approx(base.engine_tokens[0])


@pytest.mark.parametrize("damage", ["not weights", "truncated", "a tensor missing"])
def test_damaged_weights_are_refused_and_the_next_policy_is_served(
    engine: Any, model_dir: Path, tmp_path: Path, damage: str
) -> None:
    if damage == "a tensor missing":
        broken = edited(model_dir, tmp_path / "broken", lambda weights: weights.pop(TENSOR))
    else:
        broken = tmp_path / "broken"
        shutil.copytree(model_dir, broken)
        path = broken / "model.safetensors"
        path.write_bytes(b"not weights" if damage == "not weights" else path.read_bytes()[:10_000_000])
    with pytest.raises(EngineError, match="broken"):
        engine.swap(broken)
        check_swap(engine, broken, "float32")
    engine.swap(model_dir)
    check_swap(engine, model_dir, "float32")


def test_a_directory_without_weights_is_refused(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no .*safetensors"):
        engine.swap(tmp_path)
