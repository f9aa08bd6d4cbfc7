"""Tells whoever watches a run how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from trainers.train import Progress


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
