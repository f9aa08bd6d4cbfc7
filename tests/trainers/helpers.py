"""Pairs and jobs for trainer tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from trainers.formats.pairs import PreferencePair, unpaired_rows
from trainers.run.job import Progress, TrainJob
from trainers.run.objectives import find
from trainers.run.train import to_dataset, train


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


def trained(
    model: Path,
    out: Path,
    rule: str = "fixed",
    pairs: list[PreferencePair] | None = None,
    objective: str = "dpo",
    **changes: Any,
) -> TrainJob:
    """A job as `make_job` makes it, once it was run on `pairs` or the sixteen of `make_pairs`."""
    job = make_job(model, out, rule, **changes)
    train(job, make_pairs() if pairs is None else pairs, lambda _: None, objective)
    return job


class Killed(BaseException):
    """Stands for a kill: nothing in the trainer may catch it."""


def killed_at(step: int) -> Callable[[Progress], None]:
    """A progress callback that kills the run at this step."""

    def kill(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return kill


def logged(job: TrainJob) -> list[dict[str, Any]]:
    """The records of the training steps."""
    history = json.loads((job.run_dir / "log_history.json").read_text())[job.run_id]
    return [record for record in history if "loss" in record]


def rows_of(job: TrainJob) -> pd.DataFrame:
    return pd.read_parquet(job.run_dir / "example_metrics.parquet")


def weights_of(job: TrainJob) -> dict[str, torch.Tensor]:
    return dict(load_file(job.run_dir / "policy" / "model.safetensors"))


def stock_run(
    job: TrainJob, objective: str, pairs: list[PreferencePair], out: Path, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Logged steps and final weights of an unmodified TRL trainer on the same work."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import DPOTrainer, KTOTrainer
    from trl.experimental.orpo import ORPOTrainer

    loss = job.params.get("pref_loss", "sigmoid")
    args = find(objective).load_config_class()(
        output_dir=str(out),
        seed=job.seed,
        data_seed=job.seed,
        beta=job.params["pref_beta"],
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
        use_cpu=True,
        **{"dpo": {"loss_type": [loss] if isinstance(loss, str) else loss}, "kto": {"loss_type": loss}, "orpo": {}}[
            objective
        ],
        **{**job.training, **settings},
    )
    rows = Dataset.from_list(unpaired_rows(pairs, job.seed)) if objective == "kto" else to_dataset(pairs)
    model = AutoModelForCausalLM.from_pretrained(job.model_path, dtype=torch.float32, attn_implementation="sdpa")
    set_seed(job.seed)
    trainer = {"dpo": DPOTrainer, "kto": KTOTrainer, "orpo": ORPOTrainer}[objective](
        model=model,
        args=args,
        processing_class=AutoTokenizer.from_pretrained(job.model_path),
        train_dataset=rows.remove_columns("example_index"),
        peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **job.lora}) if job.lora else None,
    )
    trainer.train()
    final = trainer.model.merge_and_unload() if job.lora else trainer.model
    weights = {key: value.detach().clone() for key, value in final.state_dict().items()}
    return [record for record in trainer.state.log_history if "loss" in record], weights
