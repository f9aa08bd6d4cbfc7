"""Intermediate checkpoints: the policy at chosen steps, kept so that it can be evaluated like the final one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trainers.common.files import push, push_files
from trainers.common.training_schema import ADAPTER_DIR, POLICY_DIR, SCHEMA_VERSION, SNAPSHOT_RECORD, snapshot_dir
from trainers.run.save import sort_adapter_config, whole_state, write_json


class SnapshotCallback(TrainerCallback):
    """Writes `snapshots/step-<n>/policy` (all weights) or `adapter` (LoRA: merged when it is evaluated) of a run.

    Args:
        steps: optimiser steps to keep; None for wherever the trainer saves a checkpoint. The last step is the policy itself
            and never kept.
    """

    def __init__(
        self, trainer: Any, tokenizer: Any, run_dir: Path, run_id: str, lora: bool, steps: Sequence[int] | None
    ):
        self.trainer, self.tokenizer, self.run_dir, self.run_id = trainer, tokenizer, run_dir, run_id
        self.lora, self.steps = lora, steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # a stop request saves at any step
        due = control.should_save and args.save_strategy == "steps" and state.global_step % state.save_steps == 0
        if state.global_step in self.steps if self.steps is not None else due:
            self._keep(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.steps is None and args.save_strategy == "epoch":
            self._keep(state)

    def _keep(self, state: Any) -> None:
        folder = snapshot_dir(self.run_dir, state.global_step)
        if state.global_step >= state.max_steps or (folder / SNAPSHOT_RECORD).is_file():
            return  # a resumed run passes this step again
        weights = whole_state(self.trainer)
        if not self.trainer.accelerator.is_main_process:
            return
        target = folder / (ADAPTER_DIR if self.lora else POLICY_DIR)
        staging = folder / f".{target.name}.tmp"
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        self.trainer.accelerator.unwrap_model(self.trainer.model).save_pretrained(staging, state_dict=weights)
        if self.lora:
            sort_adapter_config(staging)
        else:
            self.tokenizer.save_pretrained(staging)
        # files reach the disk before their record, and both before any later checkpoint that a run would resume from
        files = push_files(staging)
        staging.rename(target)
        push(folder)
        record = {"step": state.global_step, "total_steps": state.max_steps, "run_id": self.run_id, "lora": self.lora}
        write_json(folder / SNAPSHOT_RECORD, {"schema_version": SCHEMA_VERSION, **record, "files": files})
        for parent in (folder, folder.parent, folder.parent.parent):
            push(parent)
