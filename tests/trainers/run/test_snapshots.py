"""Intermediate checkpoints hold the weights of a run that ends there, and keeping them changes nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evals.engine.merge import merge
from tests.trainers.helpers import Killed, killed_at, make_job, make_pairs, trained
from trainers.run.job import TrainJob
from trainers.run.train import train

CONSTANT = {"lr_scheduler_type": "constant", "max_steps": 4, "save_steps": 2}
LORA = {"r": 4, "target_modules": "all-linear"}


def run(model: Path, out: Path, training: dict[str, Any] | None = None, **changes: Any) -> TrainJob:
    return trained(model, out, training={**CONSTANT, **(training or {})}, **changes)


def kept(job: TrainJob) -> dict[int, dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in job.run_dir.glob("snapshots/step-*/snapshot.json")]
    return {record["step"]: record for record in records}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], tolerance: float = 0.0) -> bool:
    return left.keys() == right.keys() and all(torch.allclose(left[k], right[k], atol=tolerance, rtol=0) for k in left)


def test_a_kept_policy_is_that_of_a_run_that_ends_there(tiny_model: Path, tmp_path: Path) -> None:
    job = run(tiny_model, tmp_path / "kept", snapshots=(1, 3, 4, 9))
    assert sorted(kept(job)) == [1, 3], "the last step is the policy itself"
    record = kept(job)[3]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= record.pop("files").keys()
    assert record == {"schema_version": 1, "step": 3, "total_steps": 4, "run_id": "fixed-test", "lora": False}
    short = run(tiny_model, tmp_path / "short", {"max_steps": 3})
    assert same(weights(job.run_dir / "snapshots/step-3/policy"), weights(short.run_dir / "policy"))
    plain = run(tiny_model, tmp_path / "plain")
    assert same(weights(job.run_dir / "policy"), weights(plain.run_dir / "policy")), "keeping changes nothing"
    assert not (plain.run_dir / "snapshots").exists()
    assert not list(job.run_dir.glob("snapshots/*/.*")), "no temporary folder is left"


def test_true_keeps_what_the_trainer_saves(tiny_model: Path, tmp_path: Path) -> None:
    assert sorted(kept(run(tiny_model, tmp_path / "steps", snapshots=True))) == [2]
    epochs = {"save_strategy": "epoch", "max_steps": -1, "num_train_epochs": 2}
    assert sorted(kept(run(tiny_model, tmp_path / "epochs", epochs, snapshots=True))) == [4]


def test_adapters_are_kept_and_merge_to_the_policy(tiny_model: Path, tmp_path: Path) -> None:
    job = run(tiny_model, tmp_path / "kept", lora=LORA, snapshots=(2,))
    folder = job.run_dir / "snapshots" / "step-2"
    assert kept(job)[2]["lora"] and not (folder / "policy").exists()
    merge(tiny_model, folder / "adapter", folder / "policy", "float32")
    short = run(tiny_model, tmp_path / "short", {"max_steps": 2}, lora=LORA)
    assert same(weights(folder / "policy"), weights(short.run_dir / "policy"), 1e-6)
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        merge(tiny_model, tmp_path / "nothing", tmp_path / "out", "float32")


def test_a_resumed_run_keeps_the_same(tiny_model: Path, tmp_path: Path) -> None:
    whole = run(tiny_model, tmp_path / "whole", snapshots=(1, 3))
    broken = make_job(tiny_model, tmp_path / "broken", training=CONSTANT, snapshots=(1, 3))
    with pytest.raises(Killed):
        train(broken, make_pairs(), killed_at(3))
    assert train(broken, make_pairs(), lambda _: None)["resumed_from_step"] == 2
    for step in (1, 3):
        left, right = (job.run_dir / "snapshots" / f"step-{step}" / "policy" for job in (whole, broken))
        assert same(weights(left), weights(right))


def test_other_objectives_keep_too(tiny_model: Path, tmp_path: Path) -> None:

    job = make_job(tiny_model, tmp_path / "kto", training=CONSTANT, snapshots=(2,))
    job.params["pref_loss"] = "kto"
    train(job, make_pairs(), lambda _: None, "kto")
    assert sorted(kept(job)) == [2]
