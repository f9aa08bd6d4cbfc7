"""What the trainers of other objectives share: asking the rule, example rows, their means in the log, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer

from trainers.rules.base import BetaRule, RuleBatch
from trainers.trainer import recording
from trainers.trainer.recording import NUMERIC_COLUMNS, ExampleRecorder


class DivergedError(RuntimeError):
    """The loss or a gradient became NaN or infinite; the message names the step and the last good checkpoint."""


@contextmanager
def keeping_dtypes(model: Any) -> Iterator[None]:
    """Keep the precision of trained weights while a checkpoint is loaded into them.

    PEFT loads an adapter in float32, and TRL trains one over quantised weights in bfloat16: a resumed run would go on in another
    precision than it began in.
    """
    before = {name: weight.dtype for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for name, weight in model.named_parameters():
        if before.get(name, weight.dtype) != weight.dtype:
            weight.data = weight.data.to(before[name])


_LOSS = NUMERIC_COLUMNS.index("loss")


class RecordedTrainer(Trainer):
    """Goes before a TRL trainer in the bases of a class, and hands everything it does not know on to it.

    Args:
        rule: gives each example its beta, from the prompt's perplexity.
        recorder: receives one row per example and step.
    """

    def __init__(self, *args: Any, rule: BetaRule, recorder: ExampleRecorder, **kwargs: Any) -> None:
        self.rule = rule
        self.recorder = recorder
        self._rows: list[Tensor] = []
        self._unlogged: list[np.ndarray] = []
        self._clock: float | None = None
        super().__init__(*args, **kwargs)
        self.rule.to(self.accelerator.device)

    def ask_rule(self, prompt_nll: Tensor, prompt_tokens: Tensor, example_index: Tensor) -> float | Tensor:
        """The rule's beta for B examples: a float, or (B,), detached.

        Args:
            prompt_nll: (B,) mean negative log-likelihood of the prompt under the policy, nats per token.
            prompt_tokens: (B,) how many tokens that is a mean over. example_index: (B,).
        """
        state = self.state
        batch = RuleBatch(
            log_ppl=prompt_nll.detach(),
            has_ppl=prompt_tokens > 0,
            hidden=None,
            example_index=example_index,
            prompt_tokens=prompt_tokens,
            step=state.global_step + 1,
            progress=state.global_step / state.max_steps if state.max_steps > 0 else 0.0,
            training=self.model.training,
            gather=self.accelerator.gather,
            rank=self.accelerator.process_index,
        )
        beta = self.rule(batch).beta
        return beta.detach() if isinstance(beta, Tensor) else beta

    def add_rows(self, columns: dict[str, Tensor], prompt_nll: Tensor, prompt_tokens: Tensor) -> None:
        """Keep (B,) `columns` of one micro-batch for the recorder; those that are missing have no meaning and become null.

        Step, perplexity and the mark of prompts that have none are filled in here.
        """
        log_ppl = prompt_nll.double().masked_fill(prompt_tokens == 0, math.nan)
        filled = {
            "step": torch.full_like(log_ppl, self.state.global_step + 1),
            "prompt_perplexity": log_ppl.exp(),
            "log_prompt_perplexity": log_ppl,
            "mask": torch.ones_like(log_ppl),
            "beta_fallback": prompt_tokens == 0,
            **columns,
        }
        absent = torch.full_like(log_ppl, math.nan)
        self._rows.append(torch.stack([filled.get(name, absent).double() for name in NUMERIC_COLUMNS], dim=1))

    def count_tokens(self, rows: np.ndarray) -> float:
        """Tokens that went through the policy for these rows (n, len(NUMERIC_COLUMNS))."""
        return recording.tokens(rows)

    # -- logging ---------------------------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        if self._clock is None:
            self._clock = time.perf_counter()
        step: Tensor = super().training_step(*args, **kwargs)
        return step

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        training = self.model.training
        rows = self._gather_rows()
        if training:
            rows = self._record(rows)
            self._unlogged.clear()
        if rows is not None:
            prefix = "" if training else "eval_"
            means = recording.summary(rows)  # NaN for columns this objective does not have
            logs.update({prefix + key: value for key, value in means.items() if math.isfinite(value)})
        if training and rows is not None:
            now = time.perf_counter()
            if self._clock is not None:
                logs["step_time_s"] = (now - self._clock) / max(self.args.logging_steps, 1)
                logs["tokens_per_second"] = self.count_tokens(rows) / (now - self._clock)
            self._clock = now
            logs["examples_seen"] = self.state.global_step * self._global_batch()
            logs["peak_memory_bytes"] = recording.peak_memory()
        super().log(logs, start_time)

    def _global_batch(self) -> int:
        args = self.args
        size: int = args.per_device_train_batch_size * args.gradient_accumulation_steps
        return size * int(self.accelerator.num_processes)

    def _gather_rows(self) -> np.ndarray | None:
        if not self._rows:
            return None
        gathered = torch.cat(self._rows)
        self._rows.clear()
        if self.accelerator.num_processes > 1:
            gathered = self.accelerator.gather(gathered)
        rows: np.ndarray = gathered.cpu().numpy()
        if self.model.training and not np.isfinite(rows[:, _LOSS]).all():
            raise DivergedError(self._divergence("a loss is NaN or infinite"))
        return rows

    def _record(self, rows: np.ndarray | None) -> np.ndarray | None:
        """Hand `rows` to the recorder; at a log, returns all rows since the last one, a checkpoint between or not."""
        if rows is not None:
            self.recorder.add(rows)
            self._unlogged.append(rows)
        return np.concatenate(self._unlogged) if self._unlogged else None

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        value = super()._get_grad_norm(model, grad_norm=grad_norm)
        # before the optimiser's step, so that the weights and the last checkpoint stay good
        if value is not None and self.accelerator.scaler is None and not np.isfinite(float(value)):
            raise DivergedError(self._divergence(f"the gradient norm is {float(value)}"))
        return value

    def _divergence(self, what: str) -> str:
        folder = Path(self.args.output_dir)
        steps = sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*") if path.is_dir())
        kept = f"the last good checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint before it"
        return f"{what} at step {self.state.global_step + 1}; {kept}; lower the learning rate"

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with keeping_dtypes(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # before TRL's part: that ends with trainer_state.json, which makes the checkpoint count as whole
        self._record(self._gather_rows())
        if self.accelerator.is_main_process:
            self.recorder.flush(self.state.global_step)
        super()._save_checkpoint(model, trial)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints are internal; the policy gets its card once, when it is saved."""


def is_sharded(trainer: Any) -> bool:
    """Whether each process holds only a part of the weights (FSDP, DeepSpeed)."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
