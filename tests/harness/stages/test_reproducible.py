"""The same matrix in two places gives the same files, byte for byte but for what is timed; another seed gives others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from safetensors.numpy import load_file

from tests.faults import compare
from tests.harness.small_matrix import write_matrix

ROOT = Path(__file__).resolve().parents[3]
MATRIX = """
name: twice
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl}
training: {per_device_train_batch_size: 2, max_steps: 2, learning_rate: 1e-3, max_length: 128, bf16: false,
  gradient_checkpointing: false}
lora: {r: 4, lora_dropout: 0.3, target_modules: all-linear}
methods: [{name: beta_head}]
seeds: [0, 1]
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks: [{name: constraints, prompts: prompts.jsonl, max_new_tokens: 8, samples: 2, temperature: 1.0}]
report: {baseline: beta_head, primary: constraints/gold_reward}
"""


def test_the_same_matrix_twice(tiny_model: Path, tmp_path: Path) -> None:
    config = write_matrix(tmp_path, MATRIX, tiny_model, pairs=8)
    outputs = [tmp_path / "here", tmp_path / "a folder elsewhere" / "out"]
    command = [sys.executable, "-m", "harness", "run-matrix", str(config), "--output"]
    # the hash seed of Python is one more source of chance
    for i, output in enumerate(outputs):
        environment = {**os.environ, "PYTHONHASHSEED": str(i)}
        result = subprocess.run(
            [*command, str(output)], capture_output=True, text=True, cwd=ROOT, timeout=500, env=environment
        )
        assert result.returncode == 0, result.stderr
    left, right = map(compare.results, outputs)
    assert {"beta_head.safetensors", "example_metrics.parquet"} <= {Path(name).name for name in left}
    assert any(name.endswith("generations/constraints.jsonl") for name in left)
    differs = compare.differences(left, right)
    assert differs == [], f"other content: {', '.join(differs)}"

    runs = {json.loads((path / "run.json").read_text())["seed"]: path for path in outputs[0].glob("runs/*")}
    order = [pd.read_parquet(runs[seed] / "example_metrics.parquet").example_id.tolist() for seed in (0, 1)]
    assert order[0] != order[1], "the order of the data follows the seed"
    for file in ("beta_head.safetensors", "adapter/adapter_model.safetensors"):
        first, second = (load_file(runs[seed] / file) for seed in (0, 1))
        assert any((first[name] != second[name]).any() for name in first), f"{file} follows the seed"
