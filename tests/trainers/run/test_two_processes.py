"""Two processes over gloo against one: the same metrics, the same example rows, each pair of every rank once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "harness" / "configs" / "accelerate"
LORA = {"r": 4, "target_modules": "all-linear"}


def write_job(model: Path, out: Path, rule: str, training: dict[str, Any], **changes: Any) -> Path:
    """A job file and its data under `out`."""
    out.mkdir(parents=True)
    rows = [
        {
            "id": f"p{i}",
            "prompt": f"say {'abc' * (i % 5 + 1)} {i}",
            "chosen": "good " * (1 + i % 4),
            "rejected": "bad " * (1 + i % 3),
        }
        for i in range(changes.pop("n", 32))
    ]
    (out / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    defaults = {
        "max_steps": 4,
        "learning_rate": 1e-3,
        "max_length": 128,
        "gradient_checkpointing": False,
        "bf16": False,
        "save_steps": 2,
    }
    job = {
        "run_id": "run",
        "run_dir": str(out / "run"),
        "rule": rule,
        "params": {"pref_beta": 0.1},
        "seed": 0,
        "model_path": str(model),
        "weights_hash": "tiny",
        "dtype": "float32",
        "attn_implementation": "sdpa",
        "trust_remote_code": False,
        "reference_root": str(out / "reference"),
        "training": {**defaults, **training},
        "lora": None,
        **changes,
    }
    (out / "run").mkdir()
    path = out / "job.json"
    path.write_text(
        json.dumps({"train_job": job, "data": {"path": str(out / "pairs.jsonl"), "limit": None, "seed": 0}})
    )
    return path


def launch(job: Path, processes: int) -> None:
    """Run a job to its end in this many processes."""
    command = [sys.executable, "-m", "trainers.launch", str(job)]
    if processes > 1:
        config = str(CONFIGS / "cpu_two_processes.yaml")
        head = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
        command = [*head, "-m", "trainers.launch", str(job)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=job.parent, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def read(run: Path) -> tuple[list[dict[str, Any]], pd.DataFrame, dict[str, Any]]:
    """Logged steps, rows in a fixed order, final weights."""
    history = json.loads((run / "log_history.json").read_text())["run"]
    rows = pd.read_parquet(run / "example_metrics.parquet").sort_values(["step", "example_id"]).reset_index(drop=True)
    return [record for record in history if "loss" in record], rows, load_file(run / "policy" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("foodpo", {}),
        ("beta_head", {"lora": LORA}),
        ("beta_dpo", {}),
        ("epsilon_dpo", {"prefix_sharing": False, "params": {"pref_beta": 0.1, "epsilon": 0.1}}),
    ],
)
def test_two_processes_equal_one(tiny_model: Path, tmp_path: Path, rule: str, changes: dict[str, Any]) -> None:
    # beta_dpo looks at the micro-batch of all ranks, which is to be the same
    shapes = ((4, 1), (8, 1)) if rule == "beta_dpo" else ((2, 2), (2, 4))
    two, one = (
        write_job(
            tiny_model,
            tmp_path / name,
            rule,
            {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps},
            **changes,
        )
        for name, (size, steps) in zip(("two", "one"), shapes, strict=True)
    )
    launch(two, 2)
    launch(one, 1)
    logs, rows, weights = zip(*(read(job.parent / "run") for job in (two, one)), strict=True)
    assert [record["step"] for record in logs[0]] == [1, 2, 3, 4]
    for a, b in zip(*logs, strict=True):
        keys = [
            "loss",
            "grad_norm",
            "dynamic_beta",
            "dynamic_beta_std",
            "delta",
            "rewards/margins",
            "logps/chosen",
            "entropy",
        ]
        keys += ["head_grad_norm"] if rule == "beta_head" and a["step"] > 1 else []
        for key in keys:
            assert a[key] == pytest.approx(b[key], rel=2e-4, abs=2e-5), (a["step"], key)
    assert rows[0][["step", "example_id"]].equals(rows[1][["step", "example_id"]])
    assert len(rows[0]) == 32 and not rows[0].duplicated(["step", "example_id"]).any()
    for column in ("dynamic_beta", "policy_chosen_logp", "ref_rejected_logp", "delta", "loss", "log_prompt_perplexity"):
        assert rows[0][column].to_numpy() == pytest.approx(rows[1][column].to_numpy(), rel=1e-3, abs=1e-3), column
    assert max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0]) < 2e-4


@pytest.mark.slow
def test_pairs_that_do_not_divide_are_recorded_once_and_a_resume_loses_none(tiny_model: Path, tmp_path: Path) -> None:
    training = {"per_device_train_batch_size": 2, "max_steps": -1, "num_train_epochs": 2, "save_total_limit": 5}
    whole = write_job(tiny_model, tmp_path / "whole", "learnable", training, n=15)
    launch(whole, 2)
    _, rows, weights = read(whole.parent / "run")
    assert not rows.duplicated(["step", "example_id"]).any()
    assert rows.groupby("step").size().tolist() == [4] * 6  # 3 whole global batches an epoch, 3 pairs left out
    for epoch in (rows[rows.step <= 3], rows[rows.step > 3]):
        assert epoch.example_id.nunique() == 12
    again = write_job(tiny_model, tmp_path / "again", "learnable", training, n=15)
    launch(again, 2)
    run = again.parent / "run"
    checkpoints = sorted(run.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for late in checkpoints[1:]:
        import shutil

        shutil.rmtree(late)
    for part in run.glob("example_metrics.parts/*"):
        assert part.suffix == ".parquet"
    launch(again, 2)
    _, resumed, same = read(run)
    assert json.loads((run / "train_result.json").read_text())["resumed_from_step"] == 2
    assert np.array_equal(resumed.delta.to_numpy(), rows.delta.to_numpy())
    assert all(bool((weights[key] == same[key]).all()) for key in weights)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_the_accelerate_configurations_load(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(CONFIGS / name))
    assert config.num_processes >= 2 and config.compute_environment.value == "LOCAL_MACHINE"
