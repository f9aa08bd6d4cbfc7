"""A run that raises and a run that takes its process down are recorded; the others finish; exit code 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.small_matrix import statuses, write_matrix

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
    output = tmp_path / "out"
    command = ["run-matrix", write_matrix(tmp_path, MATRIX, tiny_model), "--output", output]
    result = cli(*command)
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    status = statuses(output)
    assert (status["fixed"]["state"], status["raises"]["state"]) == ("done", "failed")
    error = status["raises"]["error"]
    assert (error["class"], error["message"]) == ("RuntimeError", "no beta today") and "Traceback" in error["traceback"]
    error = status["dies"]["error"]
    assert error["class"] == "WorkerDied" and "exit code 9" in error["message"]
    page = (output / "report.html").read_text()
    assert "no beta today" in page and "exit code 9" in page

    again = cli(*command)
    assert again.returncode == 1
    assert "2 runs failed before with a permanent error; --retry-failed tries again" in again.stderr
    assert "training process started" not in again.stderr

    again = cli(*command, "--retry-failed")
    assert again.returncode == 1
    assert "training 2 runs (1 already trained)" in again.stderr
