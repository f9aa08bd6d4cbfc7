"""evaluation.engine.lora: adapters is refused where vLLM could not serve them."""

import importlib.util
import json
from typing import Any

import pytest

BENCHMARK = "      prompts: prompts.jsonl\n"


@pytest.mark.parametrize(
    ("lora", "backend", "words"),
    [
        (None, "vllm", ["trains all weights", "set it to merge"]),
        ("{r: 4}", "transformers", ["the engine is transformers", "install vLLM"]),
        ("{r: 600}", "vllm", ["up to rank 512", "lora.r is 600"]),
        ("{r: 4, use_dora: true}", "vllm", ["lora.use_dora True"]),
        ("{r: 4, modules_to_save: [lm_head]}", "vllm", ["lora.modules_to_save ['lm_head']"]),
    ],
)
def test_mistakes(
    world: Any, monkeypatch: pytest.MonkeyPatch, lora: str | None, backend: str, words: list[str]
) -> None:
    monkeypatch.setattr("harness.plan.benchmarks.gpus", lambda: ["a GPU"])
    found = importlib.util.find_spec  # vLLM need not be installed for its limits to be known
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: object() if name == "vllm" else found(name, *more)
    )
    line = world.replace(BENCHMARK, f"{BENCHMARK}  engine: {{backend: {backend}, lora: adapters}}\n") + 1
    if lora is not None:
        world.replace("seeds: [0, 1]", f"lora: {lora}\nseeds: [0, 1]")
        line += 1
    world.refuses(f"{world.config}:{line}: evaluation.engine.lora is 'adapters'", *words)


def test_it_identifies_scores_and_no_run(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.plan.benchmarks.choose_backend", lambda config: "vllm")
    monkeypatch.setattr("harness.plan.benchmarks.gpus", lambda: ["a GPU"])
    world.replace("seeds: [0, 1]", "lora: {r: 4}\nseeds: [0, 1]")
    merged = world.plan()
    world.replace(BENCHMARK, f"{BENCHMARK}  engine: {{lora: adapters}}\n")
    served = world.plan()
    assert [spec.run_id for spec in served.specs] == [spec.run_id for spec in merged.specs]
    assert served.benchmarks[0].fingerprint != merged.benchmarks[0].fingerprint
    policies = served.policies(served.specs)
    assert policies[0].adapter is None and policies[1].adapter.name == "adapter"


def test_a_gpu_is_needed(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.plan.benchmarks.choose_backend", lambda config: "vllm")
    monkeypatch.setattr("harness.plan.benchmarks.gpus", list)
    world.replace("seeds: [0, 1]", "lora: {r: 4}\nseeds: [0, 1]")
    world.replace(BENCHMARK, f"{BENCHMARK}  engine: {{lora: adapters}}\n")
    assert "needs a GPU" in world.error()


#: A model as small ones are: the output layer is the embeddings, heads of 64.
TIED = {"model_type": "llama", "tie_word_embeddings": True, "hidden_size": 256, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("lora", "model", "engine", "words"),
    [
        ("{modules_to_save: [lm_head]}", TIED, "backend: vllm", "lora: modules_to_save lm_head unties the embeddings"),
        ("{modules_to_save: [model.embed_tokens]}", TIED, "backend: vllm", "backend: transformers"),
        ("{target_modules: [q_proj, wte]}", TIED, "backend: vllm", "target_modules wte unties"),
        ("{target_modules: '.*embed_tokens|.*q_proj'}", TIED, "backend: vllm", "target_modules embed_tokens unties"),
        (
            "{modules_to_save: [lm_head]}",
            {"model_type": "gemma"},
            "backend: vllm",
            "unties",
        ),  # says nothing, and has no head
        ("{modules_to_save: [lm_head]}", TIED | {"tie_word_embeddings": False}, "backend: vllm", None),
        ("{modules_to_save: [lm_head]}", TIED, "backend: transformers", None),
        ("{target_modules: all-linear}", TIED, "backend: vllm", None),
        ("{target_modules: [lm_head]}", TIED, "backend: transformers", "so an adapter on it is not trained"),
        (
            None,
            TIED | {"hidden_size": 32},
            "backend: vllm",
            "those of MODEL have 8; set evaluation.engine.backend: transformers",
        ),
        (None, {"text_config": TIED | {"head_dim": 48}}, "backend: vllm", "those of MODEL have 48"),
        (None, TIED | {"hidden_size": 32}, "backend: transformers", None),
        (
            None,
            TIED | {"max_position_embeddings": 512},
            "backend: vllm",
            "max_model_len is 1024, and MODEL has 512 positions",
        ),
        (
            None,
            TIED | {"max_position_embeddings": 512, "rope_scaling": {"rope_type": "yarn", "factor": 4}},
            "backend: vllm",
            None,
        ),
        (None, TIED, "{backend: vllm, tensor_parallel_size: 3", "does not divide the 4 attention heads"),
    ],
)
def test_what_vllm_cannot_serve_is_found_before_training(
    world: Any, monkeypatch: pytest.MonkeyPatch, lora: str | None, model: dict[str, Any], engine: str, words: str | None
) -> None:
    monkeypatch.setattr("harness.prepare.gpus", list)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: object() if name == "vllm" else found(name, *more)
    )
    (world.model / "config.json").write_text(json.dumps(model), encoding="utf-8")
    world.replace(BENCHMARK, f"{BENCHMARK}  engine: {{{engine.lstrip('{')}}}\n")
    if lora is not None:
        world.replace("seeds: [0, 1]", f"lora: {lora}\nseeds: [0, 1]")
    if words is None:
        world.plan()
    else:
        assert words.replace("MODEL", str(world.model)) in world.error()


def test_an_adapter_begins_as_nothing(world: Any) -> None:
    world.replace("seeds: [0, 1]", "lora: {init_lora_weights: pissa_niter_16}\nseeds: [0, 1]")
    assert "lora.init_lora_weights is 'pissa_niter_16', which changes the weights under the adapter" in world.error()
    world.write(world.text.replace("pissa_niter_16", "gaussian"))
    world.plan()
