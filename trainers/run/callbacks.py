"""Tells whoever watches a run how far it is, and looks after the rule between steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from trainers.run.job import Progress

if TYPE_CHECKING:
    pass


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
    """Removes old checkpoints when the new one is saved and every other callback has seen it.

    Trainer does so before that, when the new one is not on disk for certain: a power cut would then leave none. So
    `save_total_limit` is taken from it; give this callback to it last.
    """

    def __init__(self, args: Any) -> None:
        self.limit, args.save_total_limit = args.save_total_limit, None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.should_save:
            rotate_checkpoints(args.output_dir, self.limit, state.best_model_checkpoint, use_mtime=True)
