"""What is done when a matrix grows, or loses its weights: only what is missing, with the log-probs of the same reference."""

import json
import shutil
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
EXTRA = "    - {name: more, kind: constraints, prompts: prompts.jsonl, max_new_tokens: 4}\n"


def _bytes(paths: list[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_matrix_that_loses_weights_and_gains_a_benchmark_and_a_seed(
    world: Any, tiny_model: Path, cli: Callable[..., Any]
) -> None:
    def told() -> str:
        done = cli("run-matrix", world.config, "--output", world.output)
        assert done.returncode == 0, done.stderr
        return str(done.stderr)

    world.write(MATRIX.replace("MODEL", str(tiny_model)))
    told()
    reference = world.output / "reference"
    files = sorted([*reference.glob("scores/*"), *reference.glob("logprobs/*"), *reference.glob("generations/*.jsonl")])
    before = _bytes(files)
    world.replace("seeds: [0]", "seeds: [0, 1]")
    assert "evaluating 1 of 3 policies" in told()
    assert _bytes(files) == before, "the reference is not evaluated again"
    for run in (world.output / "runs").iterdir():
        for name in ("kl", "held", "constraints"):
            found = scores_schema.read_scores(run, name)
            assert found is not None and all(item["log_prompt_perplexity"] for item in found["items"])
    events = (world.output / "work" / "evaluate.events.jsonl").read_text(encoding="utf-8").splitlines()
    assert "reference" not in {json.loads(line).get("policy") for line in events}

    # a measured run needs no weights
    scores = _bytes(list(run.glob("scores/*.json")))
    for folder in ("policy", "generations", "logprobs"):
        shutil.rmtree(run / folder)
    said = told()
    assert "all 2 runs are trained" in said and "all 3 policies are evaluated" in said
    assert _bytes(list(run.glob("scores/*.json"))) == scores and not (run / "policy").exists()
    world.write(world.text + EXTRA)
    assert "its weights were removed, and not everything is measured: training it again" in told()
    assert (run / "scores" / "more.json").is_file() and (run / "policy").is_dir()
