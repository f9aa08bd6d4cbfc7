"""What the trainers of all objectives share: asking the rule, example rows, their means in the log, checkpoints."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer

from trainers.rules.base import BetaRule, RuleBatch
from trainers.trainer import recording
from trainers.trainer.collator import PAIR_COLUMNS, Batch, PairCollator
from trainers.trainer.probe import BetaProbe
from trainers.trainer.recording import NUMERIC_COLUMNS, ExampleRecorder


class DivergedError(RuntimeError):
    """The loss or a gradient became NaN or infinite; the message names the step and the last good checkpoint."""


@contextmanager
def _keeping_dtypes(model: Any) -> Iterator[None]:
    """Keep the precision of trained weights while a checkpoint is loaded into them.

    PEFT loads an adapter in float32, and TRL trains one over quantised weights in bfloat16: a resumed run would otherwise
    change its precision.
    """
    before = {name: weight.dtype for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for name, weight in model.named_parameters():
        if before.get(name, weight.dtype) != weight.dtype:
            weight.data = weight.data.to(before[name])


_LOSS = NUMERIC_COLUMNS.index("loss")
_REFERENCE_STATE = "reference.safetensors"


class RecordedTrainer(Trainer):
    """Base class to list before a TRL trainer, which receives all other arguments.

    Args:
        rule: gives each example its beta, from the prompt's perplexity.
        recorder: receives one row per example and step.
    """

    reference_forwards = 0
    reference_in_loop = False
    prefix_sharing = False
    sharing_reason: str | None
    store_reason: str | None = None
    train_dataset: Any

    def __init__(self, *args: Any, rule: BetaRule, recorder: ExampleRecorder, **kwargs: Any) -> None:
        self.rule = rule
        self.recorder = recorder
        self.probe = BetaProbe()
        self._rows: list[Tensor] = []
        self._unlogged: list[np.ndarray] = []
        self._clock: float | None = None
        super().__init__(*args, **kwargs)
        self.rule.to(self.accelerator.device)

    def collate(self, dataset: Any, indices: Iterable[int]) -> Batch:
        """The batch of these rows on this process's device."""
        batch = PairCollator.around(self.data_collator)([dataset[i] for i in indices])
        return {key: value.to(self.accelerator.device) for key, value in batch.items()}

    def ask_rule(self, prompt_nll: Tensor, prompt_tokens: Tensor, example_index: Tensor) -> float | Tensor:
        """The rule's beta for B examples: a float, or (B,), detached.

        Args:
            prompt_nll: (B,) mean negative log-likelihood of the prompt under the policy, nats per token.
            prompt_tokens: (B,) how many tokens that is a mean over. example_index: (B,).
        """
        batch = self.rule_batch(
            log_ppl=prompt_nll.detach(),
            has_ppl=prompt_tokens > 0,
            hidden=None,
            example_index=example_index,
            prompt_tokens=prompt_tokens,
        )
        beta = self.rule(batch).beta
        return beta.detach() if isinstance(beta, Tensor) else beta

    def rule_batch(self, **values: Any) -> RuleBatch:
        """A `RuleBatch` of these values at the current step on this process."""
        state = self.state
        return RuleBatch(
            **values,
            step=state.global_step + 1,
            progress=state.global_step / state.max_steps if state.max_steps > 0 else 0.0,
            training=self.model.training,
            gather=self.accelerator.gather,
            rank=self.accelerator.process_index,
        )

    @torch.no_grad()
    def add_rows(self, columns: dict[str, Tensor], prompt_nll: Tensor, prompt_tokens: Tensor) -> None:
        """Keep (B,) `columns` of one micro-batch for the recorder; missing ones become null.

        This adds the step, the perplexity and the flag of pairs for which the rule fell back to `pref_beta`.
        """
        log_ppl = prompt_nll.double().masked_fill(prompt_tokens == 0, math.nan)
        filled = {
            "step": torch.full_like(log_ppl, self.state.global_step + 1),
            "prompt_perplexity": log_ppl.exp(),
            "log_prompt_perplexity": log_ppl,
            "mask": torch.ones_like(log_ppl),
            "beta_fallback": torch.zeros_like(log_ppl) if self.rule.fell_back is None else self.rule.fell_back,
            **columns,
        }
        absent = torch.full_like(log_ppl, math.nan)
        self._rows.append(torch.stack([filled.get(name, absent).double() for name in NUMERIC_COLUMNS], dim=1))

    # -- logging ---------------------------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        if self._clock is None:
            self._clock = time.perf_counter()
        return super().training_step(*args, **kwargs)

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
                logs["tokens_per_second"] = recording.tokens(rows) / (now - self._clock)
            self._clock = now
            logs["examples_seen"] = self._examples_seen()
            logs["peak_memory_bytes"] = recording.peak_memory()
            logs.update(self.notes(rows))
        super().log(logs, start_time)

    def _examples_seen(self) -> int:
        """Examples trained so far; the last batch of an epoch may be a short one, or dropped."""
        args, count = self.args, len(self.train_dataset)
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * self.accelerator.num_processes
        if args.dataloader_drop_last:
            micro = args.per_device_train_batch_size * self.accelerator.num_processes
            count -= count % micro
        epochs, steps = divmod(self.state.global_step, max(math.ceil(count / batch), 1))
        return epochs * count + min(steps * batch, count)

    def notes(self, rows: np.ndarray) -> dict[str, Any]:
        """More entries of the training log, from the rows (n, len(NUMERIC_COLUMNS)) of its interval."""
        return {}

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
            if self.accelerator.is_main_process:
                self.recorder.add(rows)
            self._unlogged.append(rows)
        return np.concatenate(self._unlogged) if self._unlogged else None

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        value = super()._get_grad_norm(model, grad_norm=grad_norm)
        # before the optimiser's step, so that the weights and the last checkpoint stay good; a loss scaler skips such
        # steps and lowers its scale
        if value is not None and self.accelerator.scaler is None and not np.isfinite(float(value)):
            raise DivergedError(self._divergence(f"the gradient norm is {float(value)}"))
        return value

    def _divergence(self, what: str) -> str:
        folder = Path(self.args.output_dir)
        steps = sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*") if path.is_dir())
        kept = f"the last good checkpoint is from step {steps[-1]}" if steps else "no earlier checkpoint exists"
        return f"{what} at step {self.state.global_step + 1}; {kept}; lower the learning rate"

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _keeping_dtypes(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, module in self.checkpoint_states().items():
            path = Path(resume_from_checkpoint) / name
            if path.is_file() or name == _REFERENCE_STATE:
                module.load_state_dict(load_file(path))

    def checkpoint_states(self) -> dict[str, Any]:
        """What a checkpoint holds beside TRL's own files, by file name; a reference that moves (TR-DPO) is part of it."""
        moves = getattr(self.args, "sync_ref_model", False)
        return {_REFERENCE_STATE: self.accelerator.unwrap_model(self.ref_model)} if moves else {}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # before TRL's part: that ends with trainer_state.json, which makes the checkpoint count as whole
        self._record(self._gather_rows())
        if self.accelerator.is_main_process:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            for name, module in self.checkpoint_states().items():
                state = {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
                if state:
                    folder.mkdir(parents=True, exist_ok=True)
                    save_file(state, folder / name)
            self.recorder.flush(self.state.global_step)
        super()._save_checkpoint(model, trial)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints are internal; the policy gets its card once, when it is saved."""


class RecordedWithReference(RecordedTrainer):
    """Base class for objectives with a reference: TRL always finds its log-probs in the batch, computed before training or
    in the step (`reference_in_loop`)."""

    data_collator: Any
    precompute_ref_logps: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_collator = PairCollator.around(self.data_collator)
        self.reference_in_loop = not self.precompute_ref_logps
        self.precompute_ref_logps = True

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in PAIR_COLUMNS if name not in self._signature_columns]


def is_sharded(trainer: Any) -> bool:
    """Whether each process holds only a part of the weights (FSDP, DeepSpeed)."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
