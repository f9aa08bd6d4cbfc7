"""A run that raises and a run that takes its process down are recorded; the others finish; exit code 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RULE = """
import os
from trainers.rules.base import BetaRule

class Raises(BetaRule):
    def __init__(self, hidden_size, pref_beta=0.1):
        super().__init__(pref_beta)
    def beta(self, batch):
        raise RuntimeError("no beta today")

class Dies(Raises):
    def beta(self, batch):
        os._exit(9)
"""
MATRIX = """
name: isolation
model: {name_or_path: "MODEL"}
data: {train: pairs.jsonl}
training: {per_device_train_batch_size: 2, max_steps: 2, max_length: 128, bf16: false, gradient_checkpointing: false}
methods:
  - {name: raises, rule: "rules.py:Raises"}
  - {name: dies, rule: "rules.py:Dies"}
  - {name: fixed}
evaluation:
  engine: {backend: transformers, dtype: float32, max_model_len: 256}
  benchmarks: [{name: constraints, prompts: prompts.jsonl, max_new_tokens: 4}]
report: {baseline: fixed, primary: constraints/gold_reward}
"""


def test_failed_runs_do_not_stop_the_matrix(tiny_model: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "rules.py").write_text(RULE)
    (tmp_path / "matrix.yaml").write_text(MATRIX.replace("MODEL", str(tiny_model)))
    pairs = [{"id": f"p{i}", "prompt": f"say {i}", "chosen": "yes " * (1 + i), "rejected": "no"} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    prompt = {"id": "b0", "prompt": "Say it.", "constraints": [{"kind": "no_commas", "args": {}}]}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt) + "\n")
    output = tmp_path / "out"
    command = ["run-matrix", tmp_path / "matrix.yaml", "--output", output]
    result = cli(*command)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    status = {
        path.parent.name.split("-")[0]: json.loads(path.read_text()) for path in output.glob("runs/*/status.json")
    }
    assert status["fixed"]["state"] == "done"
    assert status["raises"]["state"] == "failed"
    assert status["raises"]["error"]["class"] == "RuntimeError"
    assert status["raises"]["error"]["message"] == "no beta today"
    assert "Traceback" in status["raises"]["error"]["traceback"]
    assert status["dies"]["error"]["class"] == "WorkerDied"
    assert "exit code 9" in status["dies"]["error"]["message"]
    page = (output / "report.html").read_text()
    assert "no beta today" in page and "exit code 9" in page

    again = cli(*command)
    assert again.returncode == 1
    assert "2 runs failed before with a permanent error; --retry-failed tries again" in again.stderr
    assert "training process started" not in again.stderr

    again = cli(*command, "--retry-failed")
    assert again.returncode == 1
    assert "training 2 runs (1 already trained)" in again.stderr
