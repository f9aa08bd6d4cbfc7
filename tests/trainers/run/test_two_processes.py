"""Two processes over gloo against one: the same metrics, the same example rows, each pair of every rank once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from trainers.launch import main

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


def launch(jobs: Sequence[Path]) -> None:
    """Run jobs to their end, one after another, in two processes."""
    config = str(CONFIGS / "cpu_two_processes.yaml")
    head = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*head, "-m", "trainers.launch", str(jobs[0])]
    if len(jobs) > 1:
        script = jobs[0].parent / "all.py"
        script.write_text(f"from trainers.launch import main\nfor job in {[*map(str, jobs)]}:\n    main([job])\n")
        command = [*head, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=jobs[0].parent, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def read(run: Path) -> tuple[list[dict[str, Any]], pd.DataFrame, dict[str, Any]]:
    """Logged steps, rows in a fixed order, final weights."""
    history = json.loads((run / "log_history.json").read_text())["run"]
    rows = pd.read_parquet(run / "example_metrics.parquet").sort_values(["step", "example_id"]).reset_index(drop=True)
    return [record for record in history if "loss" in record], rows, load_file(run / "policy" / "model.safetensors")


RULES: dict[str, dict[str, Any]] = {
    "foodpo": {},
    "beta_head": {"lora": LORA},
    "beta_dpo": {},
    "epsilon_dpo": {"prefix_sharing": False, "params": {"pref_beta": 0.1, "epsilon": 0.1}},
}
#: 15 pairs in global batches of 4.
UNEVEN = {"per_device_train_batch_size": 2, "max_steps": -1, "num_train_epochs": 2, "save_total_limit": 5}


def shape(rule: str, processes: int) -> dict[str, int]:
    """Batches of 8 pairs; beta_dpo looks at the micro-batch of all ranks, which is to be the same."""
    size = 8 // processes if rule == "beta_dpo" else 2
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size // processes}


@pytest.fixture(scope="module")
def launched(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each rule and one on uneven data, by two processes that were started once."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [write_job(tiny_model, folder / rule, rule, shape(rule, 2), **changes) for rule, changes in RULES.items()]
    launch([*jobs, write_job(tiny_model, folder / "uneven", "learnable", UNEVEN, n=15)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_two_processes_equal_one(tiny_model: Path, tmp_path: Path, launched: Path, rule: str) -> None:
    one = write_job(tiny_model, tmp_path / "one", rule, shape(rule, 1), **RULES[rule])
    main([str(one)])
    logs, rows, weights = zip(*(read(run) for run in (launched / rule / "run", one.parent / "run")), strict=True)
    assert [record["step"] for record in logs[0]] == [1, 2, 3, 4]
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
    for a, b in zip(*logs, strict=True):
        for key in [*keys, *(["head_grad_norm"] if rule == "beta_head" and a["step"] > 1 else [])]:
            assert a[key] == pytest.approx(b[key], rel=2e-4, abs=2e-5), (a["step"], key)
    assert rows[0][["step", "example_id"]].equals(rows[1][["step", "example_id"]])
    assert len(rows[0]) == 32 and not rows[0].duplicated(["step", "example_id"]).any()
    for column in ("dynamic_beta", "policy_chosen_logp", "ref_rejected_logp", "delta", "loss", "log_prompt_perplexity"):
        assert rows[0][column].to_numpy() == pytest.approx(rows[1][column].to_numpy(), rel=1e-3, abs=1e-3), column
    assert max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0]) < 2e-4


@pytest.mark.slow
def test_pairs_that_do_not_divide_are_recorded_once_and_a_resume_loses_none(launched: Path) -> None:
    run = launched / "uneven" / "run"
    _, rows, weights = read(run)
    assert not rows.duplicated(["step", "example_id"]).any()
    assert rows.groupby("step").size().tolist() == [4] * 6  # 3 whole global batches an epoch, 3 pairs left out
    for epoch in (rows[rows.step <= 3], rows[rows.step > 3]):
        assert epoch.example_id.nunique() == 12
    checkpoints = sorted(run.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for late in checkpoints[1:]:
        shutil.rmtree(late)
    for part in run.glob("example_metrics.parts/*"):
        assert part.suffix == ".parquet"
    launch([run.parent / "job.json"])
    _, resumed, same = read(run)
    assert json.loads((run / "train_result.json").read_text())["resumed_from_step"] == 2
    assert np.array_equal(resumed.delta.to_numpy(), rows.delta.to_numpy())
    assert all(bool((weights[key] == same[key]).all()) for key in weights)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_the_accelerate_configurations_load(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(CONFIGS / name))
    assert config.num_processes >= 2 and config.compute_environment.value == "LOCAL_MACHINE"
