"""Callbacks that report progress, keep intermediate checkpoints and rotate the others."""

import shutil
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from trainers.common.files import push, push_files, write_json
from trainers.common.training_schema import ADAPTER_DIR, POLICY_DIR, SCHEMA_VERSION, SNAPSHOT_RECORD, snapshot_dir
from trainers.run.job import Progress, TrainJob
from trainers.run.save import sort_adapter_config, whole_state


class ProgressCallback(TrainerCallback):
    """Calls `report` with a `Progress` at every log."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.report = report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started, self._first_step = time.perf_counter(), state.global_step
        self.report(Progress(state.global_step, state.max_steps, None, None, None))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        done = state.global_step - self._first_step
        eta = (time.perf_counter() - self._started) / done * (state.max_steps - state.global_step) if done else None
        self.report(Progress(state.global_step, state.max_steps, logs["loss"], logs.get("dynamic_beta"), eta))


class SnapshotCallback(TrainerCallback):
    """Writes `snapshots/step-<n>/policy` (all weights) or `adapter` (LoRA: merged when it is evaluated) of a run, so that it
    can be evaluated like the final policy.

    `TrainJob.snapshots` names the optimiser steps to keep, or True for wherever the trainer saves a checkpoint. The last step
    is the policy itself and never kept.
    """

    def __init__(self, trainer: Any, job: TrainJob) -> None:
        self.trainer, self.job, self.lora = trainer, job, job.lora is not None
        self.steps = None if isinstance(job.snapshots, bool) else job.snapshots

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # a stop request saves at any step
        due = control.should_save and args.save_strategy == "steps" and state.global_step % state.save_steps == 0
        if state.global_step in self.steps if self.steps is not None else due:
            self._keep(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.steps is None and args.save_strategy == "epoch":
            self._keep(state)

    def _keep(self, state: Any) -> None:
        folder = snapshot_dir(self.job.run_dir, state.global_step)
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
            self.trainer.processing_class.save_pretrained(staging)
        # files reach the disk before their record, and both before any later checkpoint that a run would resume from
        files = push_files(staging)
        staging.rename(target)
        push(folder)
        record = {
            "step": state.global_step,
            "total_steps": state.max_steps,
            "run_id": self.job.run_id,
            "lora": self.lora,
        }
        write_json(folder / SNAPSHOT_RECORD, {"schema_version": SCHEMA_VERSION, **record, "files": files})
        for parent in (folder, folder.parent, folder.parent.parent):
            push(parent)


class RotateCallback(TrainerCallback):
    """Removes old checkpoints after every other callback has seen the new one; add it to the trainer last.

    Trainer would remove them before the new one is certainly on disk, and a power cut would leave none. So this callback takes
    over `save_total_limit`.
    """

    def __init__(self, args: Any) -> None:
        self.limit, args.save_total_limit = args.save_total_limit, None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.should_save:
            rotate_checkpoints(args.output_dir, self.limit, state.best_model_checkpoint, use_mtime=True)
