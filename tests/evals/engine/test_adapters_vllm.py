"""`lora: adapters` on the real vLLM engine: adapters added per request equal the merged weights in transformers.

`python -m tests.evals.engine.test_adapters_vllm` prints the noise that evals/README.md states.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.engine.base import EngineConfig, EngineError, Sampling
from evals.engine.chat import chat_ids
from evals.engine.merge import merge
from evals.engine.swap_check import check_swap
from trainers.models.embedded import prepare_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
CONFIG = EngineConfig(backend="vllm", dtype="float32", max_model_len=384, kv_cache_gib=1, lora="adapters", lora_rank=6)
QUESTIONS = ["What is the capital of France?", "Name three fruits.", "Write a sentence about rain.", "What is 2 + 3?"]


def make_adapter(base: Path, target: Path, seed: int, **more: Any) -> Path:
    """A LoRA adapter that changes the policy a little, as training would."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 6, "lora_alpha": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **more}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    get_peft_model(model, LoraConfig(init_lora_weights=False, **settings)).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return prepare_model("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def adapters(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """(adapter, merged weights) of two policies."""
    root = tmp_path_factory.mktemp("adapters")
    found = []
    for seed in (1, 2):
        adapter = make_adapter(model_dir, root / f"adapter-{seed}", seed)
        merge(model_dir, adapter, root / f"merged-{seed}", "float32")
        found.append((adapter, root / f"merged-{seed}"))
    return found


@pytest.mark.skipif(torch.cuda.is_available(), reason="on GPUs adapters are served")
def test_refused_on_cpus(model_dir: Path) -> None:
    from evals.engine.vllm_engine import VllmEngine

    with pytest.raises(EngineError, match="fail with adapters on CPUs; set it to merge"):
        VllmEngine(model_dir, CONFIG)


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> Iterator[Any]:
    from evals.engine.vllm_engine import VllmEngine

    if not torch.cuda.is_available():
        pytest.skip("adapters are served on GPUs only")
    engine = VllmEngine(model_dir, CONFIG)
    yield engine
    engine.close()


def test_each_policy_is_served_and_told_apart(engine: Any, model_dir: Path, adapters: list[tuple[Path, Path]]) -> None:
    check = check_swap(engine, model_dir, "float32")
    assert "adapters" in engine.name
    (first, merged), (second, other) = adapters
    for adapter, weights in ((first, merged), (second, other), (first, merged)):
        assert engine.swap(weights, adapter) < 30
        check = check_swap(engine, weights, "float32", check)
        assert check.distinguishable and check.engine_difference > 0.5 * check.policy_difference
    engine.swap(model_dir)
    assert check_swap(engine, model_dir, "float32", check).distinguishable


def test_answers_equal_the_merged_weights(engine: Any, adapters: list[tuple[Path, Path]]) -> None:
    from evals.engine.transformers_engine import TransformersEngine

    adapter, merged = adapters[0]
    reference = TransformersEngine(merged, CONFIG)
    prompts = [chat_ids(engine.tokenizer, question) for question in QUESTIONS]
    engine.swap(merged, adapter)
    ours, theirs = (one.generate(prompts, Sampling(max_tokens=12)) for one in (engine, reference))
    assert sum(a.token_ids == b.token_ids for a, b in zip(ours, theirs, strict=True)) >= len(prompts) - 1


def test_other_weights_and_bad_adapters_are_refused(
    engine: Any, model_dir: Path, adapters: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="not a LoRA run of the base model"):
        engine.swap(adapters[0][1])
    dora = make_adapter(model_dir, tmp_path / "dora", 3, use_dora=True)
    with pytest.raises(EngineError, match="does not serve the adapter"):
        engine.swap(adapters[0][1], dora)
    engine.swap(adapters[1][1], adapters[1][0])
    check_swap(engine, adapters[1][1], "float32")


def gap(ours: list[Any], theirs: list[Any]) -> tuple[int, float]:
    """Greedy answers that differ, and the largest difference of a token's log-prob among those that do not."""
    pairs = list(zip(ours, theirs, strict=True))
    equal = [(a, b) for a, b in pairs if a.token_ids == b.token_ids]
    gaps = [abs(x - y) for a, b in equal for x, y in zip(a.logprobs, b.logprobs, strict=True)]
    return len(pairs) - len(equal), max(gaps, default=0.0)


def main() -> None:
    """Print the noise of adapters and of merged weights on the same policy and prompts.

    On CPUs vLLM answers with adapters, and dies when it scores prompts with them: there the engine's refusal is passed by.
    """
    from dataclasses import replace
    from unittest.mock import patch

    from evals.engine import vllm_engine
    from tests.benchmarks.evals_engine import benchmark_prompts

    base = prepare_model("smollm2-135m-instruct")
    prepare = vllm_engine._prepare_environment
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        adapter, merged = make_adapter(base, Path(folder) / "a", 1), Path(folder) / "m"
        merge(base, adapter, merged, "float32")
        for lora in ("adapters", "merge"):
            with patch.object(vllm_engine, "_prepare_environment", lambda config: prepare(config) and False):
                engine = vllm_engine.VllmEngine(base, replace(CONFIG, lora=lora))
            engine.swap(merged, adapter)
            prompts = [chat_ids(engine.tokenizer, row["prompt"]) for row in benchmark_prompts()]
            together = answers[lora] = engine.generate(prompts, Sampling(max_tokens=32))
            alone = [engine.generate([prompt], Sampling(max_tokens=32))[0] for prompt in prompts]
            changed, most = gap(together, alone)
            print(
                f"{engine.name}: {changed} of {len(prompts)} greedy answers change with the batch; gap {most:.2g} nats"
            )
            engine.close()
    changed, most = gap(answers["adapters"], answers["merge"])
    print(f"adapters against merged weights: {changed} of {len(prompts)} greedy answers differ; gap {most:.2g} nats")


if __name__ == "__main__":
    main()
