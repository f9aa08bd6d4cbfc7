"""The whole way on real parts: embedded model, shipped pairs, vLLM; killed in the middle, started again."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
name: end-to-end
model: {name_or_path: "embedded:smollm2-135m-instruct"}
data: {train: "embedded:constraint-pairs/train", max_train_pairs: 6}
training:
  per_device_train_batch_size: 2
  num_train_epochs: 1
  learning_rate: 2e-4
  max_length: 192
  bf16: false
  gradient_checkpointing: false
  save_steps: 1
lora: {r: 8, target_modules: all-linear}
methods:
  - {name: fixed, rule: fixed}
  - {name: learnable, rule: learnable}
evaluation:
  engine: {max_model_len: 384}
  benchmarks: [{name: constraints, prompts: "embedded:constraint-pairs/benchmark", limit: 6, max_new_tokens: 12}]
  lm_eval: [{task: capitals, limit: 4}, {task: word_arithmetic, limit: 2}]
report: {baseline: fixed, primary: constraints/gold_reward}
"""


def start(config: Path, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", "run-matrix", str(config), "--output", str(output)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def status(output: Path, method: str) -> dict[str, Any]:
    for path in output.glob(f"runs/{method}-*/status.json"):
        return dict(json.loads(path.read_text()))
    return {"state": "absent", "step": 0}


def wait_until(condition: Any, process: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_matrix_survives_kill_and_finishes_once(tmp_path: Path) -> None:
    config, output = tmp_path / "matrix.yaml", tmp_path / "out"
    config.write_text(CONFIG)

    process = start(config, output)
    wait_until(lambda: status(output, "learnable").get("step", 0) >= 1, process, 600)
    process.send_signal(signal.SIGKILL)
    process.wait()
    worker = status(output, "learnable")["pid"]
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker), "the training process outlived its parent"
    assert status(output, "fixed")["stages"]["train"]["state"] == "done"
    assert "train" not in status(output, "learnable")["stages"]
    first = {path: path.stat().st_mtime_ns for path in output.glob("runs/fixed-*/policy/*")}

    process = start(config, output)
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    assert stdout.strip().splitlines()[-1].startswith("report: ")
    assert "(1 already trained)" in stderr
    assert not re.search(r"[Ww]arning|it/s|%\||\r", stdout + stderr), "another library speaks on the terminal"
    assert {path: path.stat().st_mtime_ns for path in first} == first, "a finished run was trained again"

    summary = json.loads((output / "summary.json").read_text())
    runs = sorted(path.name for path in output.glob("runs/*"))
    for policy in (output / "reference", *(output / "runs" / run for run in runs)):
        scores = json.loads((policy / "scores" / "constraints.json").read_text())
        assert 0 <= scores["metrics"]["gold_reward"]["value"] <= 1
        assert scores["metrics"]["gold_reward"]["n"] == 6
        rows = [json.loads(line) for line in (policy / "generations" / "constraints.jsonl").read_text().splitlines()]
        keys = [(row["prompt_id"], row["sample"]) for row in rows]
        assert len(keys) == len(set(keys)) == 6
        assert all(len(row["token_ids"]) == len(row["logprobs"]) > 0 for row in rows)
        check = json.loads((policy / "generations" / "engine.json").read_text())["check"]
        assert abs(check["engine"] - check["expected"]) <= check["tolerance"]
        for task in ("capitals", "word_arithmetic"):
            assert json.loads((policy / "scores" / f"{task}.json").read_text())["items"]
    reward = next(m for m in summary["metrics"] if (m["benchmark"], m["metric"]) == ("constraints", "gold_reward"))
    assert 0 <= reward["reference"]["value"] <= 1
    scored = {policy["run_id"] for method in reward["methods"] for policy in method["policies"]}
    assert scored == set(runs) == {run["run_id"] for run in summary["runs"]}
    for name in ("report.html", "report.md", "training_metrics.csv", "training_curves.png", "log_history.json"):
        assert (output / name).stat().st_size > 0

    (output / "report.html").unlink()
    process = start(config, output)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0 and "writing the report" in stderr and "training process" not in stderr
    assert (output / "report.html").is_file()
