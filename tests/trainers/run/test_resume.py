"""Stopped in the middle and started again, a run ends with the weights and rows of an undisturbed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.helpers import make_job, make_pairs
from trainers.run.job import Progress
from trainers.run.train import train


class Killed(BaseException):
    """Stands for a kill: nothing in the trainer may catch it."""


STATEFUL = ["fixed", "learnable", "beta_head", "beta_dpo", "epsilon_dpo", "alpha_dpo", "inverse"]


@pytest.mark.parametrize("rule", [*STATEFUL, "tr_dpo"])
def test_resume_equals_uninterrupted(tiny_model: Path, tmp_path: Path, rule: str) -> None:
    pairs, training = make_pairs(), {"max_steps": 8, "save_steps": 2}
    if rule == "tr_dpo":  # the reference moves, so it is part of the checkpoint
        rule, training = "foodpo", {**training, "sync_ref_model": True, "ref_model_sync_steps": 3}
    if rule == "epsilon_dpo":
        training = {**training, "gradient_accumulation_steps": 2}
    whole = make_job(tiny_model, tmp_path / "whole", rule, training=training)
    train(whole, pairs, lambda _: None)

    broken = make_job(tiny_model, tmp_path / "broken", rule, training=training)

    def kill(progress: Progress) -> None:
        if progress.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(broken, pairs, kill)
    assert not (broken.run_dir / "train_result.json").exists()
    assert train(broken, pairs, lambda _: None)["resumed_from_step"] == 4

    left, right = (load_file(job.run_dir / "policy" / "model.safetensors") for job in (whole, broken))
    assert all(torch.equal(left[key], right[key]) for key in left)
    files = [(job.run_dir / "example_metrics.parquet").read_bytes() for job in (whole, broken)]
    assert files[0] == files[1], "both have the same run id, so every byte is the same"
    timed = {"step_time_s", "tokens_per_second", "peak_memory_bytes", "num_tokens"}
    logs = [
        [
            {key: value for key, value in record.items() if key not in timed}
            for record in json.loads((job.run_dir / "log_history.json").read_text())[job.run_id]
            if "loss" in record
        ]
        for job in (whole, broken)
    ]
    assert logs[0] == logs[1]
    probes = [path.read_bytes() for job in (whole, broken) for path in job.run_dir.glob("beta_probe.parquet")]
    assert len(probes) == (2 if rule in ("learnable", "beta_head") else 0) and len(set(probes)) <= 1
    if rule not in ("fixed", "foodpo"):
        heads = [load_file(job.run_dir / "beta_head.safetensors") for job in (whole, broken)]
        assert all(torch.equal(heads[0][key], heads[1][key]) for key in heads[0])


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_last_checkpoint_goes_after_callbacks_have_seen_the_new_one(
    tiny_model: Path, tmp_path: Path, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have to push it to disk first (harness.workers.stop_request): a power cut before that would leave no
    checkpoint."""
    from transformers import TrainerCallback, trainer

    from trainers.run.objective_run import train_objective

    seen = []

    class Look(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(sorted(path.name for path in Path(args.output_dir).glob("checkpoint-*")))

    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, Look()])
    job = make_job(tiny_model, tmp_path, "fixed", training={"max_steps": 3, "save_steps": 1})
    if objective == "dpo":
        train(job, make_pairs(), lambda _: None)
    else:
        train_objective(job, objective, make_pairs(), lambda _: None)
    assert seen == [["checkpoint-1"], ["checkpoint-1", "checkpoint-2"], ["checkpoint-2", "checkpoint-3"]]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-3"]


def test_a_torn_checkpoint_is_not_used(tiny_model: Path, tmp_path: Path) -> None:
    job = make_job(tiny_model, tmp_path, training={"max_steps": 2})
    torn = tmp_path / "checkpoints" / "checkpoint-1"
    torn.mkdir(parents=True)
    (torn / "trainer_state.json").write_text('{"global_st')
    assert train(job, make_pairs(), lambda _: None)["resumed_from_step"] == 0


def test_rows_are_streamed_between_checkpoints_and_survive_a_kill(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts written without a checkpoint are dropped where they are trained again, and every row is there once."""
    from trainers.trainer import recording

    monkeypatch.setattr(recording, "FLUSH_ROWS", 8)
    training = {"max_steps": 8, "save_steps": 5, "save_total_limit": 1}
    job = make_job(tiny_model, tmp_path, training=training)

    def kill(progress: Progress) -> None:
        if progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        train(job, make_pairs(), kill)
    parts = sorted(int(path.stem.split("-")[1]) for path in (tmp_path / "example_metrics.parts").glob("*.parquet"))
    assert parts == [2, 4, 5, 7] or parts == [2, 4, 5]
    assert train(job, make_pairs(), lambda _: None)["resumed_from_step"] == 5
    assert pq.ParquetFile(tmp_path / "example_metrics.parquet").num_row_groups == 1, "not one for each part"
    rows = pd.read_parquet(tmp_path / "example_metrics.parquet")
    assert rows.groupby("step").size().tolist() == [4] * 8
    assert not rows.duplicated(["step", "example_id"]).any()
