"""Eight runs by this project against the script a user would write: a process for each training and each evaluation.

`python -m tests.benchmarks.matrix_script MODEL PAIRS BETA SEED OUT` is that script's training: stock trl.DPOTrainer with
the reference's log-probs computed beforehand; `lm_eval --model hf` then evaluates what it saved.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import evals
from tests.benchmarks.measure import Measurement, finish
from trainers.common.jsonl import read_jsonl, write_jsonl

_BETAS, _SEEDS, _PAIRS, _LIMIT = (0.05, 0.1, 0.2, 0.5), (0, 1), 12, 40
_TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "num_train_epochs": 1,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "constant",
    "max_length": 256,
    "bf16": False,
    "gradient_checkpointing": False,
}
_LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
_TASK = "capitals"


def train(model_path: Path, pairs: Path, beta: float, seed: int, out: Path) -> None:
    """One stock training run; the merged policy and the last logged loss go to `out`."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rows = [row for _, row in read_jsonl(pairs)]
    columns = {key: [row[key] for row in rows] for key in ("prompt", "chosen", "rejected")}
    settings = {**_TRAINING, "beta": beta, "seed": seed, "data_seed": seed, "logging_steps": 1, "use_cpu": True}
    settings |= {"precompute_ref_log_probs": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_path, dtype="float32"),
        args=DPOConfig(output_dir=str(out / "trainer"), **settings),
        processing_class=AutoTokenizer.from_pretrained(model_path),
        train_dataset=Dataset.from_dict(columns),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **_LORA),
    )
    trainer.train()
    trainer.model.merge_and_unload().save_pretrained(out)
    trainer.processing_class.save_pretrained(out)
    loss = [record["loss"] for record in trainer.state.log_history if "loss" in record][-1]
    (out / "loss.json").write_text(json.dumps(loss), encoding="utf-8")


def compare() -> Measurement:
    """Wall time of both sides, started one after the other; the metrics of all policies beside it.

    Raises:
        RuntimeError: a process failed, or the sides do not end with the same metrics within noise.
    """
    from trainers.models.embedded import prepare_model

    model = prepare_model("smollm2-135m-instruct")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pairs = _write_pairs(root / "pairs.jsonl")
        started, cpu = time.perf_counter(), _cpu_seconds()
        ours = _ours(root, pairs)
        between, cpu_between = time.perf_counter(), _cpu_seconds()
        theirs = _theirs(root, model, pairs)
        seconds = between - started, time.perf_counter() - between
        used = cpu_between - cpu, _cpu_seconds() - cpu_between
    answers = [abs(ours[key][1] - theirs[key][1]) * _LIMIT for key in ours]
    losses = [abs(ours[key][0] - theirs[key][0]) for key in ours if key != "reference"]
    stderr = max((value * (1 - value) / _LIMIT) ** 0.5 for _, value in theirs.values())
    if max(answers) / _LIMIT > 2 * stderr or max(losses) > 0.02:
        raise RuntimeError(f"the sides end with other metrics: ours {ours}, theirs {theirs}")
    detail = (
        f"ours {seconds[0]:.0f} s with the report, theirs {seconds[1]:.0f} s; {len(losses)} runs of {_PAIRS} pairs (LoRA), "
        f"{len(answers)} policies on {_LIMIT} items of {_TASK}; processor time {used[0]:.0f} s "
        f"and {used[1]:.0f} s; accuracies differ by at most {max(answers):.0f} items (one "
        f"standard error is {stderr * _LIMIT:.1f}), last losses by at most {max(losses):.1e}"
    )
    theirs_is = "stock DPOTrainer with precomputed reference, then lm_eval --model hf, one process each"
    return Measurement([seconds[0] / seconds[1]], "ratio", theirs_is, detail)


def _cpu_seconds() -> float:
    """Processor time of all processes ended so far; other work on the machine distorts it less than wall time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _write_pairs(path: Path) -> Path:
    import trainers

    source = Path(trainers.__path__[0]) / "data" / "constraint_pairs" / "train.jsonl"
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    rows = [row for _, row in read_jsonl(source)[:_PAIRS]]
    turns = [{key: [{"role": role, "content": row[key]}] for key, role in roles.items()} for row in rows]
    write_jsonl(path, [{"id": row["id"], **said} for row, said in zip(rows, turns, strict=True)])
    return path


def _ours(root: Path, pairs: Path) -> dict[str, tuple[float, float]]:
    """Policy -> (last loss, accuracy)."""
    config, output = root / "matrix.yaml", root / "ours"
    matrix = {
        "name": "eight",
        "model": {"name_or_path": "embedded:smollm2-135m-instruct", "dtype": "float32"},
        "data": {"train": str(pairs)},
        "training": _TRAINING,
        "lora": _LORA,
        "methods": [{"name": "fixed", "grid": {"pref_beta": list(_BETAS)}}],
        "seeds": list(_SEEDS),
        "evaluation": {"engine": {"max_model_len": 512}, "lm_eval": [{"task": _TASK, "limit": _LIMIT}]},
        "report": {"baseline": "fixed", "primary": f"{_TASK}/acc"},
    }
    config.write_text(json.dumps(matrix), encoding="utf-8")  # JSON is YAML
    finish([sys.executable, "-m", "harness", "run-matrix", str(config), "--output", str(output)], root / "ours.log")
    found = {"reference": (0.0, _accuracy(output / "reference"))}
    for folder in sorted((output / "runs").iterdir()):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        history = json.loads((folder / "log_history.json").read_text(encoding="utf-8"))[folder.name]
        loss = [entry["loss"] for entry in history if "loss" in entry][-1]
        found[f"{record['params']['pref_beta']}/{record['seed']}"] = (loss, _accuracy(folder))
    return found


def _accuracy(policy: Path) -> float:
    scores = json.loads((policy / "scores" / f"{_TASK}.json").read_text(encoding="utf-8"))
    return float(scores["metrics"]["acc"]["value"])


def _theirs(root: Path, model: Path, pairs: Path) -> dict[str, tuple[float, float]]:
    """Policy -> (last loss, accuracy)."""
    found = {}
    policies = [("reference", model)]
    for beta, seed in itertools.product(_BETAS, _SEEDS):
        policies.append((f"{beta}/{seed}", root / f"theirs-{beta}-{seed}"))
        policies[-1][1].mkdir()
        given = [str(value) for value in (model, pairs, beta, seed, policies[-1][1])]
        finish([sys.executable, "-m", "tests.benchmarks.matrix_script", *given], root / "theirs.log")

    tasks = Path(evals.__path__[0]) / "tasks"
    for name, path in policies:
        results = root / "lm_eval" / name.replace("/", "-")
        arguments = ["--model", "hf", "--model_args", f"pretrained={path},dtype=float32", "--device", "cpu"]
        arguments += ["--tasks", _TASK, "--limit", str(_LIMIT), "--include_path", str(tasks), "--batch_size", "8"]
        command = [str(Path(sys.executable).with_name("lm_eval")), *arguments, "--output_path", str(results)]
        finish(command, root / "lm_eval.log", cwd=tasks, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        (file,) = results.rglob("results_*.json")
        accuracy = json.loads(file.read_text(encoding="utf-8"))["results"][_TASK]["acc,none"]
        loss = 0.0 if name == "reference" else json.loads((path / "loss.json").read_text(encoding="utf-8"))
        found[name] = (loss, accuracy)
    return found


if __name__ == "__main__":
    model_path, pairs_path, beta_text, seed_text, out_path = sys.argv[1:]
    train(Path(model_path), Path(pairs_path), float(beta_text), int(seed_text), Path(out_path))
