"""Runs added to a matrix whose reference is evaluated already: benchmarks that compare with it find its log-probs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainers.common import scores_schema

MATRIX = """
name: growing
model: {name_or_path: MODEL}
data: {train: pairs.jsonl, heldout: pairs.jsonl}
training:
  per_device_train_batch_size: 2
  max_steps: 2
  learning_rate: 1e-2
  max_length: 128
  bf16: false
  gradient_checkpointing: false
methods: [{name: fixed, rule: fixed}]
seeds: [0]
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks:
    - {name: kl, kind: kl, prompts: prompts.jsonl, max_new_tokens: 8, samples: 2}
    - {name: held, kind: preference}
    - {name: constraints, prompts: prompts.jsonl, max_new_tokens: 8}
"""


@pytest.mark.slow
def test_a_seed_added_later_is_compared_with_the_same_reference(
    world: Any, tiny_model: Path, cli: Callable[..., Any]
) -> None:
    world.write(MATRIX.replace("MODEL", str(tiny_model)))
    first = cli("run-matrix", world.config, "--output", world.output)
    assert first.returncode == 0, first.stderr
    reference = world.output / "reference"
    files = sorted([*reference.glob("scores/*"), *reference.glob("logprobs/*"), *reference.glob("generations/*.jsonl")])
    before = {path: path.read_bytes() for path in files}

    world.replace("seeds: [0]", "seeds: [0, 1]")
    second = cli("run-matrix", world.config, "--output", world.output)
    assert second.returncode == 0, second.stderr
    assert "evaluating 1 of 3 policies" in second.stderr
    assert {path: path.read_bytes() for path in files} == before, "the reference is not evaluated again"
    for run in (world.output / "runs").iterdir():
        for name in ("kl", "held", "constraints"):
            found = scores_schema.read_scores(run, name)
            assert found is not None and all(item["log_prompt_perplexity"] for item in found["items"])
    events = (world.output / "work" / "evaluate.events.jsonl").read_text(encoding="utf-8").splitlines()
    assert "reference" not in {json.loads(line).get("policy") for line in events}
