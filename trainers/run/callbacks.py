"""Callbacks that report progress and rotate checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from trainers.run.job import Progress


class ProgressCallback(TrainerCallback):
    """Calls `report` with a `Progress` at every log."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.report = report
        self._started = time.perf_counter()
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started, self._first_step = time.perf_counter(), state.global_step
        self.report(Progress(state.global_step, state.max_steps, None, None, None))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        done = state.global_step - self._first_step
        eta = (time.perf_counter() - self._started) / done * (state.max_steps - state.global_step) if done else None
        self.report(Progress(state.global_step, state.max_steps, logs["loss"], logs.get("dynamic_beta"), eta))


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
