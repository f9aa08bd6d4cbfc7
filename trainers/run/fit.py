"""Run a trainer to its last step, from its last checkpoint if there is one, and write its outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.common.training_schema import LOG_HISTORY
from trainers.run.callbacks import ProgressCallback, RotateCallback, SnapshotCallback
from trainers.run.job import Progress, TrainJob
from trainers.run.save import last_checkpoint, save_policy, whole_state, write_json
from trainers.run.tracking import shelter


def fit(trainer: Any, job: TrainJob, on_progress: Callable[[Progress], None]) -> int:
    """Train to the last step; returns the step training was resumed from, 0 for a fresh start."""
    from transformers import TrainerState

    trainer.add_callback(ProgressCallback(on_progress))
    shelter(trainer, job)
    if job.snapshots is not False:
        trainer.add_callback(SnapshotCallback(trainer, job))
    trainer.add_callback(RotateCallback(trainer.args))
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    resumed = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    if trainer.accelerator.is_main_process:
        trainer.recorder.start(resumed)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state is not None and state.global_step >= state.max_steps:
        # killed after the last step: Trainer would train one step more where the last epoch is not a whole one
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return resumed


def write_outputs(trainer: Any, job: TrainJob) -> None:
    """Write `example_metrics.parquet`, `log_history.json`, `policy/` and with LoRA `adapter/` (see `TrainJob.save`); on the
    main process only."""
    state = whole_state(trainer)
    if not trainer.accelerator.is_main_process:
        return
    trainer.recorder.flush(trainer.state.global_step)
    trainer.recorder.finish()
    trainer.probe.write(job.run_dir, trainer.recorder.example_ids)
    write_json(job.run_dir / LOG_HISTORY, {job.run_id: trainer.state.log_history})
    save_policy(trainer, job, state)
