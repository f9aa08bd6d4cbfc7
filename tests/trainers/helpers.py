"""Pairs and jobs for trainer tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers.formats.pairs import PreferencePair
from trainers.run.job import TrainJob


def make_pairs(n: int = 16) -> list[PreferencePair]:
    """Pairs of differing lengths, so that padding and truncation matter."""
    return [
        PreferencePair(
            id=f"p{i}",
            prompt=[{"role": "user", "content": f"say {'abc' * (i % 5 + 1)} {i}"}],
            chosen=[{"role": "assistant", "content": "good " * (1 + i % 4)}],
            rejected=[{"role": "assistant", "content": "bad " * (1 + i % 3)}],
            group=f"p{i}",
        )
        for i in range(n)
    ]


def make_job(model: Path, out: Path, rule: str = "fixed", **changes: Any) -> TrainJob:
    out.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "run_id": f"{rule}-test",
        "run_dir": out,
        "rule": rule,
        "params": {"pref_beta": 0.1},
        "seed": 0,
        "model_path": model,
        "weights_hash": "tiny",
        "dtype": "float32",
        "attn_implementation": "sdpa",
        "trust_remote_code": False,
        "reference_root": out / "reference",
        "training": {
            "per_device_train_batch_size": 4,
            "max_steps": 4,
            "learning_rate": 1e-3,
            "max_length": 128,
            "gradient_checkpointing": False,
            "bf16": False,
        },
        "lora": None,
    }
    training = changes.pop("training", {})
    settings["training"] = {**settings["training"], **training}
    return TrainJob(**{**settings, **changes})
