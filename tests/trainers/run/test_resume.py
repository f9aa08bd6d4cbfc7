"""Stopped in the middle and started again, a run ends with the weights and rows of an undisturbed one."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.helpers import Killed, killed_at, logged, make_job, make_pairs, rows_of, trained, weights_of
from trainers.run.train import train

#: A reference that moves (TR-DPO) is part of the checkpoint.
MOVING = {"sync_ref_model": True, "ref_model_sync_steps": 3}
CASES = [
    *(("dpo", rule, {}) for rule in ("fixed", "learnable", "beta_head", "beta_dpo", "alpha_dpo", "inverse")),
    ("dpo", "epsilon_dpo", {"gradient_accumulation_steps": 2}),
    *((objective, "foodpo", MOVING) for objective in ("dpo", "kto")),
    *((objective, "foodpo", {}) for objective in ("kto", "orpo")),
]


@pytest.mark.parametrize(("objective", "rule", "changes"), CASES)
def test_resume_equals_uninterrupted(
    tiny_model: Path, tmp_path: Path, objective: str, rule: str, changes: dict[str, Any]
) -> None:
    pairs, training = make_pairs(), {"max_steps": 8, "save_steps": 2, **changes}
    whole, broken = (make_job(tiny_model, tmp_path / name, rule, training=training) for name in ("whole", "broken"))
    train(whole, pairs, lambda _: None, objective)
    with pytest.raises(Killed):
        train(broken, pairs, killed_at(5), objective)
    assert not (broken.run_dir / "train_result.json").exists()
    assert train(broken, pairs, lambda _: None, objective)["resumed_from_step"] == 4

    left, right = weights_of(whole), weights_of(broken)
    assert all(torch.equal(left[key], right[key]) for key in left)
    files = [(job.run_dir / "example_metrics.parquet").read_bytes() for job in (whole, broken)]
    assert files[0] == files[1], "both have the same run id, so every byte is the same"
    rows = rows_of(whole)
    assert set(rows.step) == set(range(1, 9)) and rows.loss.notna().all()
    timed = {"step_time_s", "tokens_per_second", "peak_memory_bytes", "num_tokens"}
    logs = [[{k: v for k, v in record.items() if k not in timed} for record in logged(job)] for job in (whole, broken)]
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
    """They may have to push it to disk first (harness.workers.stopping): a power cut before that would leave no
    checkpoint."""
    from transformers import TrainerCallback, trainer

    seen = []

    class Look(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(sorted(path.name for path in Path(args.output_dir).glob("checkpoint-*")))

    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, Look()])
    trained(tiny_model, tmp_path, "fixed", training={"max_steps": 3, "save_steps": 1}, objective=objective)
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
    with pytest.raises(Killed):
        train(job, make_pairs(), killed_at(7))
    parts = sorted(int(path.stem.split("-")[1]) for path in (tmp_path / "example_metrics.parts").glob("*.parquet"))
    assert parts == [2, 4, 5, 7] or parts == [2, 4, 5]
    assert train(job, make_pairs(), lambda _: None)["resumed_from_step"] == 5
    assert pq.ParquetFile(tmp_path / "example_metrics.parquet").num_row_groups == 1, "not one for each part"
    rows = rows_of(job)
    assert rows.groupby("step").size().tolist() == [4] * 8
    assert not rows.duplicated(["step", "example_id"]).any()
