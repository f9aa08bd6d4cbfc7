"""Trackers of transformers: what they are told of a run, and that the dynamic-beta metrics reach them."""

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from tests.trainers.helpers import make_pairs
from trainers.formats.pairs import PreferencePair
from trainers.run import tracking as tracking_module
from trainers.run.job import TrainJob
from trainers.run.tracking import environment, reported_to, tracked_by, tracking
from trainers.run.train import train


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
    return make_pairs(4)


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


def test_tensorboard_has_each_run_in_a_folder_of_its_own(
    tiny_model: Path, tmp_path: Path, pairs: list[PreferencePair]
) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_multiplexer", reason="tensorboard is not installed"
    )
    for seed in (0, 1):
        job = dataclasses.replace(
            _job(tiny_model, tmp_path, seed), run_id=f"r-{seed}", run_dir=tmp_path / "runs" / f"r-{seed}"
        )
        job.run_dir.mkdir(parents=True)
        train(job, pairs, lambda progress: None)
    records = reader.EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "tracking" / "tensorboard"))
    records.Reload()
    assert sorted(records.Runs()) == ["r-0", "r-1"]
    for run in records.Runs():
        betas = records.Scalars(run, "train/dynamic_beta")
        assert [event.step for event in betas] == [1, 2] and all(event.value > 0 for event in betas)


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


def _unset(tiny_model: Path, output: Path) -> TrainJob:
    """A job whose matrix file says nothing of `report_to`."""
    job = _job(tiny_model, output)
    return dataclasses.replace(job, training={k: v for k, v in job.training.items() if k != "report_to"})


@pytest.mark.parametrize("installed", [True, False])
def test_trackio_is_the_default_where_it_is_installed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(tracking_module, "default_is_installed", lambda: installed)
    monkeypatch.setitem(sys.modules, "trackio", ModuleType("trackio"))
    job = _unset(tiny_model, tmp_path)
    assert tracked_by(job) == reported_to(job) == (["trackio"] if installed else [])
    assert tracked_by(_job(tiny_model, tmp_path, report_to="none")) == []
    monkeypatch.setitem(sys.modules, "trackio", None)  # its import now fails, as a broken installation's does
    assert reported_to(job) == []


def test_a_folder_called_trackio_is_no_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    assert importlib.util.find_spec("trackio") is not None
    assert tracking_module.default_is_installed() is False


class TrackioCallback(TrainerCallback):
    """A default tracker that fails once training has begun."""

    calls = 0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        TrackioCallback.calls += 1
        raise OSError("disk full")

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        TrackioCallback.calls += 1


def test_the_default_tracker_cannot_fail_a_run(
    tiny_model: Path, tmp_path: Path, pairs: list[PreferencePair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_module, "default_is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "trackio", ModuleType("trackio"))
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", TrackioCallback)
    job = _unset(tiny_model, tmp_path / "out")
    job.run_dir.mkdir(parents=True)
    train(job, pairs, lambda progress: None)
    assert (job.run_dir / "train_result.json").is_file()
    assert TrackioCallback.calls == 1, "it is told nothing more"
    asked_for = _job(tiny_model, tmp_path / "other", report_to="trackio")
    asked_for.run_dir.mkdir(parents=True)
    with pytest.raises(OSError, match="disk full"):
        train(asked_for, pairs, lambda progress: None)


def test_a_wandb_record_ends_with_its_run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        ended: ClassVar[list[str]] = []

        def finish(self) -> None:
            Module.ended.append("finish")
            raise RuntimeError("nothing about a tracker may fail a run")

        def teardown(self) -> None:
            Module.ended.append("teardown")

    monkeypatch.setitem(sys.modules, "wandb", Module())
    for seed in (0, 1):
        job = _job(tiny_model, tmp_path, seed, ["wandb"])
        with tracking(job):
            assert os.environ["WANDB_TAGS"].endswith(f"seed-{seed}")
    assert Module.ended == ["finish", "teardown"] * 2, "without a teardown W&B gives the next run this one's tags"


def test_a_failed_run_leaves_no_record_open(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    module = ModuleType("mlflow")
    module.end_run = told.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    job = _job(tiny_model, tmp_path, report_to=["mlflow"])
    with tracking(job):
        pass
    with pytest.raises(ZeroDivisionError), tracking(job):
        _ = 1 / 0
    assert told == ["FAILED"]


def test_without_a_matrix_name_the_output_directory_is_the_group(tiny_model: Path, tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tiny_model, tmp_path / "out"), group=None)
    assert environment(job)["WANDB_RUN_GROUP"] == "out"
