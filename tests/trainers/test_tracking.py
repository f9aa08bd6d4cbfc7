"""Trackers of transformers: what they are told of a run, and that the dynamic-beta metrics reach them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from trainers.data import PreferencePair, parse_row
from trainers.tracking import environment, tracked_by, tracking
from trainers.train import TrainJob, train


def _job(tiny_model: Path, output: Path, seed: int = 0, report_to: Any = "tensorboard") -> TrainJob:
    return TrainJob(
        run_id="my-method-0123456789ab",
        run_dir=output / "runs" / "my-method-0123456789ab",
        rule="foodpo",
        params={"pref_beta": 0.1, "pref_beta_scale": 0.5},
        seed=seed,
        model_path=tiny_model,
        weights_hash="w",
        dtype="float32",
        attn_implementation="sdpa",
        trust_remote_code=False,
        reference_root=output / "shared",
        training={"max_steps": 2, "per_device_train_batch_size": 2, "bf16": False, "report_to": report_to},
        lora=None,
        group="my-matrix",
    )


@pytest.fixture(scope="module")
def pairs() -> list[PreferencePair]:
    rows = [{"id": str(i), "prompt": f"Say {i}.", "chosen": f"{i}!", "rejected": "No."} for i in range(4)]
    return [parse_row(row, f"rows:{i}", row["id"], i) for i, row in enumerate(rows, start=1)]


class _Tracker(TrainerCallback):
    """A tracker in the place of TensorBoard's, which keeps what it is told."""

    told: ClassVar[list[dict[str, Any]]] = []

    def __init__(self) -> None:
        self.environment = dict(os.environ)  # some trackers read it when they are made, some when training begins

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        assert os.environ["WANDB_RUN_GROUP"] == self.environment["WANDB_RUN_GROUP"]
        record = {
            "logs": dict(logs or {}),
            "environment": self.environment,
            "run_name": args.run_name,
            "project": args.project,
        }
        _Tracker.told.append(record)


def test_a_run_reports_its_group_name_tags_and_dynamic_beta(
    tiny_model: Path, tmp_path: Path, pairs: list[PreferencePair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", _Tracker)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "the-users-own")
    job = _job(tiny_model, tmp_path / "out")
    job.run_dir.mkdir(parents=True)
    train(job, pairs, lambda progress: None)
    steps = [one for one in _Tracker.told if "loss" in one["logs"]]
    assert len(steps) == 2
    for one in steps:
        for key in (
            "dynamic_beta",
            "dynamic_beta_std",
            "prompt_perplexity",
            "delta",
            "loss_at_beta0",
            "gradient_weight",
        ):
            assert isinstance(one["logs"][key], float), key
        said = one["environment"]
        assert said["WANDB_MODE"] == "offline" and said["SWANLAB_MODE"] == "local"
        assert said["WANDB_RUN_GROUP"] == said["WANDB_PROJECT"] == one["project"] == "my-matrix"
        assert said["WANDB_TAGS"] == "my-method,foodpo,seed-0"
        assert json.loads(said["MLFLOW_TAGS"]) == {
            "matrix": "my-matrix",
            "method": "my-method",
            "rule": "foodpo",
            "seed": "0",
        }
        assert said["MLFLOW_EXPERIMENT_NAME"] == "the-users-own"
        assert said["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "out" / "tracking" / "tensorboard" / job.run_id)
        assert one["run_name"] == job.run_id
    assert "WANDB_RUN_GROUP" not in os.environ and os.environ["MLFLOW_EXPERIMENT_NAME"] == "the-users-own"


def test_the_users_variables_are_left_alone(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    job = _job(tiny_model, tmp_path, report_to=["wandb"])
    with tracking(job):
        assert os.environ["WANDB_MODE"] == "online" and os.environ["WANDB_RUN_GROUP"] == "my-matrix"
    assert os.environ["WANDB_MODE"] == "online" and "WANDB_RUN_GROUP" not in os.environ
    assert (tmp_path / "tracking").is_dir(), "W&B writes elsewhere where WANDB_DIR does not exist"


@pytest.mark.parametrize("report_to", ["none", None, [], ["none"]])
def test_without_trackers_nothing_is_set(tiny_model: Path, tmp_path: Path, report_to: Any) -> None:
    job = _job(tiny_model, tmp_path, report_to=report_to)
    assert tracked_by(job) == []
    before = dict(os.environ)
    with tracking(job):
        assert dict(os.environ) == before
    assert not (tmp_path / "tracking").exists()


def test_a_wandb_record_ends_with_its_run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        finished = 0

        def finish(self) -> None:
            Module.finished += 1
            raise RuntimeError("nothing about a tracker may fail a run")

    monkeypatch.setitem(sys.modules, "wandb", Module())
    for seed in (0, 1):
        job = _job(tiny_model, tmp_path, seed, ["wandb"])
        with tracking(job):
            assert os.environ["WANDB_TAGS"].endswith(f"seed-{seed}")
    assert Module.finished == 2


def test_without_a_matrix_name_the_output_directory_is_the_group(tiny_model: Path, tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tiny_model, tmp_path / "out"), group=None)
    assert environment(job)["WANDB_RUN_GROUP"] == "out"
