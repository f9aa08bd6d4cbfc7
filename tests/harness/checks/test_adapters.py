"""evaluation.engine.lora: adapters is refused where vLLM could not serve them."""

from __future__ import annotations

import importlib.util
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
    message = world.error()
    for word in [f"{world.config}:{line}: evaluation.engine.lora is 'adapters'", *words]:
        assert word in message, message


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
    assert policies[0].adapter is None and policies[1].adapter.endswith("/adapter")


def test_a_gpu_is_needed(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.plan.benchmarks.choose_backend", lambda config: "vllm")
    monkeypatch.setattr("harness.plan.benchmarks.gpus", list)
    world.replace("seeds: [0, 1]", "lora: {r: 4}\nseeds: [0, 1]")
    world.replace(BENCHMARK, f"{BENCHMARK}  engine: {{lora: adapters}}\n")
    assert "needs a GPU" in world.error()
