"""Write run directories as a matrix leaves them, with numbers that behave like a real run's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml


@dataclass(frozen=True)
class Method:
    """A method of the synthetic matrix: `gain` moves its mean score against the reference."""

    name: str
    rule: str
    gain: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)


FIXED = Method("fixed", "fixed", 0.03, {"pref_beta": 0.1})
FOODPO = Method("foodpo", "foodpo", 0.06, {"pref_beta": 0.1, "pref_beta_scale": 0.5})
HEAD = Method("beta_head", "beta_head", 0.02, {"pref_beta": 0.1})
METHODS = (FIXED, FOODPO, HEAD)

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)> & \"quotes\" 'single'",
    "<!-- <script> ]]> {{ 7 * 7 }} {% raw %} | a | b |",
    "bidi \u202eevil\u202c and \u2066isolate\u2069, zero\u200bwidth, nul \x00 bell \x07 esc \x1b[31m",
    "line\u2028separator\u2029paragraph \ud800 lone surrogate",
    "long " * 4000,
    "`" * 5 + "\n# heading\n[link](javascript:alert(1))",
    "",
)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def status(run_id: str, state: str, step: int = 8, total: int = 8) -> dict[str, Any]:
    error = {
        "class": "OutOfMemoryError",
        "message": "tried to allocate <2 GiB>",
        "traceback": "Traceback ...",
    }
    return {
        "schema_version": 1,
        "run_id": run_id,
        "state": state,
        "stage": "train" if state != "done" else "score",
        "step": step,
        "total_steps": total,
        "error": error if state == "failed" else None,
        "updated": "2026-01-02T03:04:05+00:00",
        "stages": {},
    }


def log_records(
    rng: np.random.Generator, method: Method, steps: int, nan_from: int | None = None
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        delta = 0.4 * step + float(rng.normal(0, 0.3))
        beta = 0.1 if method.rule == "fixed" else 0.1 + 0.03 * float(rng.normal()) + 0.002 * step
        beta = max(beta, 0.01)
        loss = float(np.log1p(np.exp(-beta * delta)))
        if nan_from is not None and step >= nan_from:
            loss = delta = float("nan")
        record: dict[str, Any] = {
            "step": step,
            "epoch": step / steps,
            "loss": loss,
            "loss_at_beta0": float(np.log1p(np.exp(-0.1 * delta))),
            "delta": delta,
            "delta_std": 1.0,
            "dynamic_beta": beta,
            "dynamic_beta_std": 0.0 if method.rule == "fixed" else 0.02,
            "dynamic_beta_min": beta - 0.02,
            "dynamic_beta_max": beta + 0.02,
            "prompt_perplexity": 20.0,
            "log_prompt_perplexity": 3.0,
            "gradient_weight": beta / 2,
            "examples_seen": step * 8,
            "grad_norm": 1.0,
            "learning_rate": 1e-5,
            "rewards/chosen": 0.1,
            "rewards/rejected": -0.1,
            "rewards/accuracies": 0.5 + 0.05 * min(step, 8),
            "rewards/margins": 0.2,
            "logps/chosen": -50.0,
            "logps/rejected": -60.0,
            "tokens_per_second": 900.0,
            "step_time_s": 1.2,
            "peak_memory_bytes": 2**30,
            "entropy": 1.1,
        }
        if method.rule == "beta_head":
            record["head_grad_norm"] = 0.01
        if method.name == "beta_head" and step == steps:
            record["beta_collapse"] = "variance of beta below 1e-4 of its mean for 5 steps"
        records.append(record)
    records.append({"step": steps, "epoch": 1.0, "train_runtime": 10.0, "train_loss": 0.6})
    return records


def example_rows(rng: np.random.Generator, run_id: str, method: Method, steps: int, batch: int = 8) -> pd.DataFrame:
    n = steps * batch
    step = np.repeat(np.arange(1, steps + 1), batch)
    log_ppl = rng.normal(3.0, 0.6, n).clip(0.5)
    delta = rng.normal(0.3 * step, 1.0)
    beta = np.full(n, 0.1) if method.rule == "fixed" else 0.05 * log_ppl
    return pd.DataFrame(
        {
            "run_id": run_id,
            "step": step,
            "example_id": [f"train-{i % 24:04d}" for i in range(n)],
            "prompt_tokens": 20,
            "chosen_tokens": 30,
            "rejected_tokens": 31,
            "prompt_perplexity": np.exp(log_ppl),
            "log_prompt_perplexity": log_ppl,
            "dynamic_beta": beta,
            "policy_chosen_logp": -50 + delta,
            "policy_rejected_logp": -60.0,
            "ref_chosen_logp": -50.0,
            "ref_rejected_logp": -60.0,
            "delta": delta,
            "loss": np.logaddexp(0, -beta * delta),
            "loss_at_beta0": np.logaddexp(0, -0.1 * delta),
            "weight": 1.0,
            "gradient_weight": beta / 2,
            "mask": True,
            "beta_fallback": False,
        }
    )


def _metric(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    x = np.asarray(values)
    error = float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else None
    return {"value": float(x.mean()), "stderr": error, "n": int(x.size), "higher_is_better": True}


def write_scores(
    directory: Path, policy: str, gain: float, prompts: int, rng: np.random.Generator, difficulty: np.ndarray
) -> None:
    texts = [HOSTILE[i] if i < len(HOSTILE) else f"An answer of {policy} to prompt {i}." for i in range(prompts)]
    gold = np.round(np.clip(difficulty + gain + rng.normal(0, 0.12, prompts), 0, 1) * 4) / 4
    items = [
        {
            "id": f"p{i:03d}",
            "values": {"gold_reward": float(g), "all_satisfied": float(g == 1)},
            "group": None,
            "prompt": f"Prompt {i}: write about <topic {i}>.",
            "log_prompt_perplexity": 3.0,
            "checks": [{"constraint": "max_words", "passed": bool(g > 0.5)}],
        }
        for i, g in enumerate(gold)
    ]
    _write(
        directory / "scores" / "constraints.json",
        {
            "schema_version": 1,
            "benchmark": "constraints",
            "kind": "constraints",
            "policy": policy,
            "fingerprint": "f",
            "metrics": {
                "gold_reward": _metric(gold),
                "all_satisfied": _metric([float(g == 1) for g in gold]),
            },
            "primary_metric": "gold_reward",
            "items": items,
            "noise": None,
        },
    )
    rows = [
        {
            "policy": policy,
            "policy_fingerprint": "f",
            "benchmark": "constraints",
            "prompt_id": f"p{i:03d}",
            "sample": 0,
            "prompt": f"Prompt {i}: write about <topic {i}>.",
            "text": text,
            "token_ids": [1],
            "logprobs": [-0.5],
            "finish_reason": "stop",
            "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 96, "seed": 0},
        }
        for i, text in enumerate(texts)
    ]
    path = directory / "generations" / "constraints.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    correct = (rng.random(prompts) < 0.6 + gain).astype(float)
    _write(
        directory / "scores" / "capitals.json",
        {
            "schema_version": 1,
            "benchmark": "capitals",
            "kind": "lm_eval",
            "policy": policy,
            "fingerprint": "f",
            "metrics": {"acc": _metric(correct)},
            "primary_metric": "acc",
            "items": [{"id": str(i), "values": {"acc": float(c)}, "group": None} for i, c in enumerate(correct)],
            "noise": None,
        },
    )


def write_run(
    root: Path,
    method: Method,
    seed: int,
    *,
    state: str = "done",
    steps: int = 8,
    prompts: int = 16,
    nan_from: int | None = None,
    difficulty: np.ndarray | None = None,
) -> str:
    """Write one run directory; returns its run id. `state="missing"` writes nothing."""
    run_id = f"{method.name}-{seed:04d}ab"
    if state == "missing":
        return run_id
    directory = root / "runs" / run_id
    rng = np.random.default_rng([seed, sum(map(ord, method.name))])
    _write(
        directory / "run.json",
        {
            "schema_version": 1,
            "run_id": run_id,
            "method": method.name,
            "rule": method.rule,
            "seed": seed,
            "params": method.params,
            "hyper": {},
            "fingerprint": f"{seed:04d}ab",
            "model": {"name": "tiny", "weights_hash": "sha256:1234"},
            "data": {"train": "train.jsonl", "content_hash": "sha256:5678", "n_pairs": 24},
            "training": {"learning_rate": 1e-5, "max_steps": steps},
            "lora": None,
            "versions": {"trl": "1.16.0", "torch": "2.13.0"},
            "hardware": {"device": "cpu"},
            "created": "2026-01-02T03:04:05Z",
        },
    )
    done_steps = steps if state == "done" else max(1, steps // 2)
    _write(directory / "status.json", status(run_id, state, done_steps, steps))
    _write(directory / "log_history.json", {run_id: log_records(rng, method, done_steps, nan_from)})
    example_rows(rng, run_id, method, done_steps).to_parquet(directory / "example_metrics.parquet")
    if state == "done":
        base = difficulty if difficulty is not None else np.random.default_rng(7).uniform(0.2, 0.9, prompts)
        write_scores(directory, run_id, method.gain + 0.02 * float(rng.normal()), prompts, rng, base)
    return run_id


def write_matrix(
    root: Path,
    methods: Sequence[Method] = METHODS,
    seeds: Sequence[int] = (0, 1),
    *,
    prompts: int = 16,
    steps: int = 8,
    failed: Sequence[tuple[str, int]] = (),
    missing: Sequence[tuple[str, int]] = (),
    reference: bool = True,
) -> list[str]:
    """Write a whole output directory; returns the run ids in order."""
    root.mkdir(parents=True, exist_ok=True)
    report = {"baseline": "fixed", "primary": "constraints/gold_reward"}
    (root / "matrix.yaml").write_text(yaml.safe_dump({"name": "demo", "report": report}), encoding="utf-8")
    difficulty = np.random.default_rng(7).uniform(0.2, 0.9, prompts)
    run_ids = []
    for method in methods:
        for seed in seeds:
            key = (method.name, seed)
            state = "failed" if key in failed else "missing" if key in missing else "done"
            run_ids.append(
                write_run(root, method, seed, state=state, steps=steps, prompts=prompts, difficulty=difficulty)
            )
    if reference:
        write_scores(root / "reference", "reference", 0.0, prompts, np.random.default_rng(99), difficulty)
    return run_ids
