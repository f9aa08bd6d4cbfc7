"""Tells whoever watches a run how far it is, and looks after the rule between steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from trainers.train import Progress

if TYPE_CHECKING:
    from trainers.trainer import DynamicBetaDPOTrainer


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


class RuleCallback(TrainerCallback):
    """Averages the rule's gradients over ranks before the optimiser's step (DDP does not see them), notes their norm,
    and lets the rule change its state after the step."""

    def __init__(self, trainer: DynamicBetaDPOTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.start_clock()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        gradients = [p.grad for p in self.trainer.rule.parameters() if p.grad is not None]
        if not gradients:
            return
        if self.trainer.accelerator.num_processes > 1:
            for gradient in gradients:
                torch.distributed.all_reduce(gradient)
                gradient.div_(self.trainer.accelerator.num_processes)
        self.trainer.head_grad_norm = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Trainer zeroes the gradients of its model only, and the rule is not part of it
        self.trainer.rule.zero_grad(set_to_none=True)
        self.trainer.rule.after_optimizer_step(self.trainer.accelerator.gather)
