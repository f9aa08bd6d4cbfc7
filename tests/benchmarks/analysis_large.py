"""A report over 200 runs and 2 million example rows, on two cores: seconds and peak memory of `harness report`.

The runs are synthetic: 8 methods of 5 settings and 5 seeds, 625 steps of 16 pairs, two benchmarks of 200 prompts. Rows, log
records and scores go through the writers and schemas that training and evaluation use.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.measure import Measurement

NAMES = ("analysis.large_matrix_time", "analysis.large_matrix_memory")
_RULES = ("fixed", "foodpo", "learnable", "beta_head", "beta_dpo", "epsilon_dpo", "alpha_dpo", "cal_dpo")
_SETTINGS, _SEEDS, _STEPS, _BATCH, _PAIRS, _PROMPTS = 5, 5, 625, 16, 1000, 200
_FINGERPRINT = "0" * 64


def run(name: str) -> Measurement:
    """One of `NAMES`; both are measured by one report."""
    seconds, gigabytes = _measured()
    detail = (
        f"{len(_RULES) * _SETTINGS * _SEEDS} runs, {len(_RULES) * _SETTINGS * _SEEDS * _STEPS * _BATCH / 1e6:g} million "
        f"example rows, 2 benchmarks of {_PROMPTS} prompts: {seconds:.0f} s and {gigabytes:.2f} GB on 2 cores"
    )
    return Measurement([seconds], "s", None, detail) if "time" in name else Measurement([gigabytes], "GB", None, detail)


@functools.cache
def _measured() -> tuple[float, float]:
    """Seconds and GB (10^9 bytes) of the largest process of one report."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        write_matrix(output)
        return measure(output)


def measure(output: Path) -> tuple[float, float]:
    """Seconds and peak GB of `harness report` on `output`, held to two cores, in a process of its own."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    code = "import os, sys; os.sched_setaffinity(0, set(map(int, sys.argv[1].split(',')))); os.execv(sys.argv[2], sys.argv[2:])"
    command = [sys.executable, "-m", "harness", "report", "--output", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", code, ",".join(map(str, cores)), *command], capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if result.returncode:
        raise RuntimeError(f"the report ended with {result.returncode}: {result.stderr[-2000:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if peak == before:
        raise RuntimeError("an earlier child of this process was larger; measure in a process of its own")
    return seconds, peak * 1024 / 1e9


def write_matrix(output: Path) -> None:
    """The matrix on disk, as its last stage finds it."""
    from trainers.common.files import write_json
    from trainers.common.scores_schema import REFERENCE

    difficulty = np.random.default_rng(0).uniform(0.2, 0.8, _PROMPTS)
    ids = []
    for m, rule in enumerate(_RULES):
        for setting in range(_SETTINGS):
            for seed in range(_SEEDS):
                ids.append(f"{rule}-{m:04x}{setting:04x}{seed:04x}")
                _write_run(output, ids[-1], rule, 0.05 * (setting + 1), seed, 0.01 * m, difficulty)
    _write_scores(output / REFERENCE, REFERENCE, 0.0, difficulty, np.random.default_rng(1))
    config = _config()
    record = {"schema_version": 1, "name": "large", "config": config, "runs": ids, "config_path": "large.yaml"}
    write_json(output / "matrix.json", {**record, "frozen": "2026-01-01T00:00:00+00:00"})


def _config() -> dict[str, Any]:
    from harness.config.matrix_file import MatrixConfig

    grid = {"pref_beta": [0.05 * (i + 1) for i in range(_SETTINGS)]}
    given = {
        "name": "large",
        "model": {"name_or_path": "model"},
        "data": {"train": "pairs.jsonl"},
        "methods": [{"name": rule, "grid": grid} for rule in _RULES],
        "seeds": list(range(_SEEDS)),
        "evaluation": {"benchmarks": [{"name": name, "prompts": f"{name}.jsonl"} for name in ("first", "second")]},
        "report": {"baseline": "fixed", "primary": "first/gold_reward"},
    }
    return MatrixConfig.model_validate(given).model_dump()


def _rows(rng: np.random.Generator, beta0: float) -> np.ndarray:
    """Example rows (steps x batch, len(NUMERIC_COLUMNS)) of one run, as the trainer hands them to the recorder."""
    from trainers.trainer.recording import NUMERIC_COLUMNS

    n = _STEPS * _BATCH
    step = np.repeat(np.arange(1, _STEPS + 1), _BATCH).astype(float)
    index = np.concatenate([rng.permutation(_PAIRS) for _ in range(-(-n // _PAIRS))])[:n].astype(float)
    nll = 2.0 + 0.002 * (index % 997) + rng.normal(0, 0.1, n)
    beta = beta0 * np.exp(0.3 * (nll - nll.mean()) + 0.0002 * step)
    delta = rng.normal(0.004 * step, 1.0)
    columns = {
        "example_index": index,
        "step": step,
        "prompt_tokens": 20 + index % 50,
        "chosen_tokens": 30 + index % 40,
        "rejected_tokens": 31 + index % 30,
        "prompt_perplexity": np.exp(nll),
        "log_prompt_perplexity": nll,
        "dynamic_beta": beta,
        "policy_chosen_logp": -50 + delta,
        "policy_rejected_logp": np.full(n, -60.0),
        "ref_chosen_logp": np.full(n, -50.0),
        "ref_rejected_logp": np.full(n, -60.0),
        "delta": delta,
        "loss": np.logaddexp(0, -beta * delta),
        "loss_at_beta0": np.logaddexp(0, -beta0 * delta),
        "weight": np.ones(n),
        "gradient_weight": beta / (1 + np.exp(beta * delta)),
        "mask": np.ones(n),
        "beta_fallback": np.zeros(n),
    }
    return np.column_stack([columns[name] for name in NUMERIC_COLUMNS])


def _write_run(
    output: Path, run_id: str, rule: str, beta: float, seed: int, gain: float, difficulty: np.ndarray
) -> None:
    from harness.state.records import RunRecord
    from harness.state.store import RunStore
    from trainers.common.files import write_json
    from trainers.common.training_schema import LOG_HISTORY, TRAIN_RESULT
    from trainers.trainer.recording import ExampleRecorder

    rng = np.random.default_rng([seed, *map(ord, run_id)])
    directory = output / "runs" / run_id
    store = RunStore(directory)
    store.create(RunRecord.model_validate(_record(run_id, rule, beta, seed)))
    rows = _rows(rng, beta)
    recorder = ExampleRecorder(directory, run_id, [f"train-{i:04d}" for i in range(_PAIRS)])
    recorder.add(rows)
    recorder.flush(_STEPS)
    recorder.finish()
    for part in recorder.parts.iterdir():
        part.unlink()
    recorder.parts.rmdir()
    write_json(directory / LOG_HISTORY, {run_id: _history(rows)})
    write_json(directory / TRAIN_RESULT, {"steps": _STEPS, "mean_reference_log_perplexity": 3.0})
    (directory / "policy").mkdir()
    (directory / "policy" / "config.json").write_text("{}", encoding="utf-8")
    store.progress(_STEPS, _STEPS)
    files = _write_scores(directory, run_id, gain, difficulty, rng)
    store.mark_stage("train", _FINGERPRINT, [LOG_HISTORY, TRAIN_RESULT, "example_metrics.parquet"], 100.0)
    store.mark_stage("evaluate", _FINGERPRINT, files, 10.0, last=True)


def _record(run_id: str, rule: str, beta: float, seed: int) -> dict[str, Any]:
    """What `Plan.run_record` writes."""
    return {
        "schema_version": 1,
        "run_id": run_id,
        "method": rule,
        "rule": rule,
        "objective": "dpo",
        "seed": seed,
        "params": {"pref_beta": beta},
        "hyper": {"pref_beta": beta},
        "parent": None,
        "parent_method": None,
        "fingerprint": _FINGERPRINT,
        "model": {"name": "model", "weights_hash": _FINGERPRINT},
        "data": {"train": "pairs.jsonl", "content_hash": _FINGERPRINT, "n_pairs": _PAIRS, "heldout_overlap": 0},
        "training": {"learning_rate": 1e-5},
        "lora": None,
        "versions": {"python": "3.11"},
        "hardware": {"machine": "x86_64", "cpus": 2, "gpus": []},
        "created": "2026-01-01T00:00:00+00:00",
    }


def _history(rows: np.ndarray) -> list[dict[str, Any]]:
    """A log record a step: the means the trainer logs, and TRL's own keys."""
    from trainers.trainer.recording import summary

    records = []
    for step in range(1, _STEPS + 1):
        part = rows[(step - 1) * _BATCH : step * _BATCH]
        means = summary(part)
        own = {"rewards/margins": means["delta"] * 0.1, "rewards/accuracies": 0.6, "rewards/chosen": 0.1}
        own |= {"rewards/rejected": -0.1, "logps/chosen": -50.0, "logps/rejected": -60.0, "grad_norm": 1.0}
        own |= {"step": step, "epoch": step * _BATCH / _PAIRS, "learning_rate": 1e-5, "loss": means["loss_at_beta0"]}
        own |= {"examples_seen": step * _BATCH, "step_time_s": 1.2, "tokens_per_second": 900.0}
        records.append({**own, **means, "peak_memory_bytes": 2**30})
    records.append({"step": _STEPS, "epoch": 10.0, "train_runtime": 100.0, "train_loss": 0.6})
    return records


def _write_scores(
    directory: Path, policy: str, gain: float, difficulty: np.ndarray, rng: np.random.Generator
) -> list[str]:
    """Scores and generations of both benchmarks; returns their names."""
    from trainers.common import scores_schema

    files = []
    for benchmark in ("first", "second"):
        gold = np.round(np.clip(difficulty + gain + rng.normal(0, 0.12, _PROMPTS), 0, 1), 2)
        words = rng.integers(10, 80, _PROMPTS)
        items = [
            {
                "id": f"p{i:03d}",
                "values": {"gold_reward": float(gold[i]), "response_words": int(words[i])},
                "group": None,
                "prompt": f"Prompt {i}: write about topic {i}.",
                "log_prompt_perplexity": 2.0 + i / _PROMPTS,
            }
            for i in range(_PROMPTS)
        ]
        metrics = {
            name: {
                "value": float(x.mean()),
                "stderr": float(x.std(ddof=1) / np.sqrt(len(x))),
                "n": len(x),
                "higher_is_better": better,
            }
            for name, x, better in (("gold_reward", gold, True), ("response_words", words.astype(float), None))
        }
        scores = {"schema_version": 1, "benchmark": benchmark, "kind": "constraints", "policy": policy}
        scores |= {"fingerprint": _FINGERPRINT, "metrics": metrics, "primary_metric": "gold_reward"}
        path = scores_schema.scores_path(directory, benchmark)
        scores_schema.write_json(path, {**scores, "items": items, "noise": None})
        rows = scores_schema.generations_path(directory, benchmark)
        rows.parent.mkdir(parents=True, exist_ok=True)
        sampling = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 96, "seed": 0}
        texts = [
            {"policy": policy, "policy_fingerprint": _FINGERPRINT, "benchmark": benchmark, "prompt_id": item["id"]}
            | {"sample": 0, "prompt": item["prompt"], "text": f"An answer of {policy} to it. " * 3}
            | {"token_ids": [1] * 30, "logprobs": [-0.5] * 30, "finish_reason": "stop", "sampling": sampling}
            for item in items
        ]
        rows.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        files += [str(path.relative_to(directory)), str(rows.relative_to(directory))]
    return files
