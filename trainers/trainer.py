"""One trainer for every beta rule: a thin subclass of trl.DPOTrainer.

TRL's `_compute_loss` reads `self.beta` after the policy's forward and multiplies elementwise. So a stand-in for the model runs
the policy, reads the prompt's log-likelihood and hidden states from the same forward, asks the rule for the betas, sets
`self.beta` and hands TRL its per-token log-probs. With a constant rule and `prefix_sharing=False` this is stock TRL, bit for bit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import use_adapter

from trainers.collapse import CollapseDetector
from trainers.recording import NUMERIC_COLUMNS, ExampleRecorder
from trainers.reference import ReferenceScore, ReferenceStore, content_key
from trainers.rules.base import BetaRule
from trainers.scoring import add_pair_scoring, unsupported_reason
from trainers.stand_in import PolicyStandIn

RULE_STATE = "rule.safetensors"


class DivergedError(RuntimeError):
    """The loss or a gradient became NaN or infinite; the message names the step."""


@dataclass
class IndexedCollator:
    """TRL's collator plus `example_index` (B,), which says where in the training set a pair comes from."""

    inner: DataCollatorForPreference

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.inner(examples)
        if "example_index" in examples[0]:
            batch["example_index"] = torch.tensor([example["example_index"] for example in examples])
        return batch


class DynamicBetaDPOTrainer(DPOTrainer):
    """DPO with the beta of each pair given by `rule`.

    Args:
        rule: the beta rule; its parameters, if any, are trained with the learning rate `rule.head_learning_rate`.
        recorder: receives one row per example and step.
        store: reference scores by content; `precompute_ref_log_probs` must be on.
        prefix_sharing: run prompt + chosen + rejected as one row where the model allows it. `sharing_reason` says why
            it is off, if it is.
        kwargs: of trl.DPOTrainer. `train_dataset` has an integer column `example_index`.
    """

    data_collator: Any

    def __init__(
        self,
        *args: Any,
        rule: BetaRule,
        recorder: ExampleRecorder,
        store: ReferenceStore,
        prefix_sharing: bool = True,
        **kwargs: Any,
    ) -> None:
        self.rule = rule
        self.recorder = recorder
        self.store = store
        self.prefix_sharing = prefix_sharing
        self.sharing_reason: str | None = None if prefix_sharing else "switched off"
        self.reference_forwards = 0
        self.reference_scores: list[ReferenceScore] = []
        self._pair_scoring_added = False
        self._rows: list[Tensor] = []
        self._clock: float | None = None
        self._unlogged: list[np.ndarray] = []
        self._head_grad_norm: float | None = None
        self.collapse = CollapseDetector(rule)
        super().__init__(*args, **kwargs)
        self.rule.to(self.accelerator.device)
        if not isinstance(self.data_collator, IndexedCollator):
            self.data_collator = IndexedCollator(self.data_collator)
        self.add_callback(_HeadGradients(self))

    # -- the model underneath PEFT and DDP -------------------------------------------------------------------

    def _causal_lm(self) -> Any:
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _prepare_scoring(self) -> None:
        """Decide on prefix sharing once TRL has patched the model's forward (it does so in its `__init__`)."""
        if self._pair_scoring_added:
            return
        model = self._causal_lm()
        if self.prefix_sharing:
            self.sharing_reason = self._sharing_refused() or unsupported_reason(model)
            self.prefix_sharing = self.sharing_reason is None
        if self.prefix_sharing:
            add_pair_scoring(model)
        self._pair_scoring_added = True

    def _sharing_refused(self) -> str | None:
        if self.use_weighting:
            return "WPO weighting needs scores that rows with a shared prompt do not carry"
        if self.aux_loss_enabled:
            return "the router's auxiliary loss counts tokens of the two-row layout"
        return None

    @contextlib.contextmanager
    def _reference_mode(self) -> Iterator[Any]:
        """The reference policy as a callable: the frozen copy, or the policy before training without its adapter."""
        model = self.ref_model or self.model
        context: Any = contextlib.nullcontext()
        unwrapped = self.accelerator.unwrap_model(self.model)
        if self.ref_model is None and hasattr(unwrapped, "peft_config"):
            context = use_adapter(unwrapped, adapter_name="ref" if "ref" in unwrapped.peft_config else None)
        with torch.no_grad(), context, self.accelerator.autocast():
            yield model

    # -- the reference store ---------------------------------------------------------------------------------

    def _truncated(self, example: dict[str, Any]) -> tuple[list[int], list[int], list[int]]:
        """Token ids of prompt, chosen and rejected as they reach the model."""
        prompt, limit = example["prompt_ids"], self.args.max_length
        if limit is None:
            return prompt, example["chosen_ids"], example["rejected_ids"]
        if self.args.truncation_mode == "keep_start":
            room = max(limit - len(prompt), 0)
            return prompt[:limit], example["chosen_ids"][:room], example["rejected_ids"][:room]
        return prompt, [-1 % 2**32, limit, *example["chosen_ids"]], example["rejected_ids"]  # keep_end: cut per row

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Replace TRL's cache (see `trainers.reference`): only pairs the store lacks are run."""
        self._prepare_scoring()
        keys = [content_key(*self._truncated(example)) for example in dataset]
        known = self.store.load()
        missing = list({key: i for i, key in enumerate(keys) if key not in known}.items())
        if self.prefix_sharing:  # alike lengths together; two-row batches keep TRL's order, and so its last bits
            missing.sort(key=lambda item: sum(map(len, self._truncated(dataset[item[1]]))))
        if missing:
            collator = (
                self.data_collator.inner if isinstance(self.data_collator, IndexedCollator) else self.data_collator
            )
            fresh: dict[str, ReferenceScore] = {}
            with self._reference_mode() as model:
                for start in range(0, len(missing), batch_size):
                    part = missing[start : start + batch_size]
                    batch = collator([dataset[index] for _, index in part])
                    batch = {key: value.to(self.accelerator.device) for key, value in batch.items()}
                    for (key, _), score in zip(part, self._reference_batch(model, batch), strict=True):
                        fresh[key] = score
            if self.accelerator.is_main_process:
                self.store.add(fresh)
            known.update(fresh)
        scores = [known[key] for key in keys]
        if name == "train":
            self.reference_scores = scores
        dataset = dataset.add_column("ref_chosen_logps", [score.chosen_logp for score in scores])
        return dataset.add_column("ref_rejected_logps", [score.rejected_logp for score in scores])

    def _reference_batch(self, model: Any, batch: dict[str, Tensor]) -> list[ReferenceScore]:
        self.reference_forwards += 1
        completion_mask = batch["completion_mask"]
        labels = batch["input_ids"].masked_fill(completion_mask == 0, -100)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
        stand_in = PolicyStandIn(self, model, completion_mask, aggregation=None, attach_ppl=False)
        outputs, _ = stand_in.forward({**inputs, "labels": labels, "fused_lm_head": True})
        mask = completion_mask[:, 1:]
        if self.ld_alpha is None:
            logps = outputs.log_probs.sum(dim=1)
        else:
            position = mask.cumsum(dim=1)
            shared = torch.minimum(*mask.sum(dim=1).long().chunk(2)).repeat(2)[:, None]
            weight = torch.where(position <= shared, 1.0, self.ld_alpha) * mask
            logps = (outputs.log_probs * weight).sum(dim=1)
        entropy = getattr(outputs, "entropy", None)
        tokens = mask.sum(1).chunk(2)
        if entropy is None:
            per_pair = torch.full_like(logps.chunk(2)[0], float("nan"))
        else:
            per_pair = sum((entropy * mask).sum(1).chunk(2)) / (tokens[0] + tokens[1]).clamp_min(1)
        chosen, rejected = logps.chunk(2)
        columns = (chosen, rejected, stand_in.prompt_nll, per_pair)
        return [ReferenceScore(*row) for row in zip(*(column.double().tolist() for column in columns), strict=True)]

    # -- the loss --------------------------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "example_index" not in self._signature_columns:
            self._signature_columns.append("example_index")

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        self._prepare_scoring()
        inputs = dict(inputs)
        index = inputs.pop("example_index", None)
        policy = PolicyStandIn(
            self, model, inputs["completion_mask"], self.rule.aggregation, self.rule.attach_ppl, index
        )
        result = super()._compute_loss(policy, inputs, return_outputs)
        loss = result[0] if return_outputs else result
        beta = policy.raw_beta
        penalty = self.rule.penalty(beta) if isinstance(beta, Tensor) else None
        if penalty is not None and self.model.training:
            loss = loss + penalty
        self._collect(policy, inputs)
        return (loss, result[1]) if return_outputs else loss

    def _collect(self, policy: PolicyStandIn, inputs: dict[str, Any]) -> None:
        """Keep one row of numbers per example, on the device, for the next log."""
        with torch.no_grad():
            chosen, rejected = policy.sequence_logps.chunk(2)
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
            delta = ((chosen - ref_chosen) - (rejected - ref_rejected)).double()
            beta = torch.as_tensor(self.beta, device=delta.device).detach().double().expand_as(delta)
            mask = inputs["completion_mask"]
            tokens = mask.sum(1).chunk(2)
            prompt_tokens = inputs["attention_mask"].sum(1).chunk(2)[0] - tokens[0]
            log_ppl = policy.prompt_nll.detach().double()
            no_ppl = ~policy.has_ppl
            log_ppl = log_ppl.masked_fill(no_ppl, float("nan"))
            columns = {
                "example_index": policy.index,
                "step": torch.full_like(delta, self.state.global_step + 1),
                "prompt_tokens": prompt_tokens,
                "chosen_tokens": tokens[0],
                "rejected_tokens": tokens[1],
                "prompt_perplexity": log_ppl.exp(),
                "log_prompt_perplexity": log_ppl,
                "dynamic_beta": beta,
                "policy_chosen_logp": chosen,
                "policy_rejected_logp": rejected,
                "ref_chosen_logp": ref_chosen,
                "ref_rejected_logp": ref_rejected,
                "delta": delta,
                "loss": self._pair_loss(delta, beta, chosen - ref_chosen, rejected - ref_rejected, tokens),
                "loss_at_beta0": -F.logsigmoid(self.rule.pref_beta * delta),
                "weight": torch.ones_like(delta),
                "gradient_weight": beta * torch.sigmoid(-beta * delta),
                "mask": torch.ones_like(delta),
                "beta_fallback": no_ppl,
            }
            self._rows.append(torch.stack([columns[name].double() for name in NUMERIC_COLUMNS], dim=1))

    def _pair_loss(
        self, delta: Tensor, beta: Tensor, chosen: Tensor, rejected: Tensor, tokens: tuple[Tensor, ...]
    ) -> Tensor:
        """The loss of each pair (B,), in float64, for the losses a rule offers as `pref_loss`."""
        if self.rule.pref_loss == "hinge":
            return torch.relu(1 - beta * delta)
        if self.rule.pref_loss == "ipo":
            average = chosen.double() / tokens[0].clamp_min(1) - rejected.double() / tokens[1].clamp_min(1)
            return (average - 1 / (2 * beta)) ** 2
        return -F.logsigmoid(beta * delta)

    # -- logging ---------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        training = self.model.training
        rows = self._gather_rows()
        if training:
            rows = self._record(rows)
            self._unlogged.clear()
        if rows is not None:
            prefix = "" if training else "eval_"
            logs.update({prefix + key: value for key, value in _summary(rows).items()})
        if training and rows is not None:
            now = time.perf_counter()
            if self._clock is not None:
                logs["step_time_s"] = (now - self._clock) / max(self.args.logging_steps, 1)
                logs["tokens_per_second"] = _tokens(rows) / (now - self._clock)
            self._clock = now
            logs["examples_seen"] = self.state.global_step * self._global_batch()
            logs["peak_memory_bytes"] = _peak_memory()
            if self._head_grad_norm is not None:
                logs["head_grad_norm"] = self._head_grad_norm
            reason = self.collapse.update(rows, self.state.global_step)
            if reason is not None:
                logs["beta_collapse"] = reason  # type: ignore[assignment]
            for key in ("loss", "grad_norm"):
                if key in logs and not np.isfinite(float(logs[key])):
                    raise DivergedError(
                        f"{key} is {logs[key]} at step {self.state.global_step}; lower the learning rate"
                    )
        super().log(logs, start_time)

    def _gather_rows(self) -> np.ndarray | None:
        if not self._rows:
            return None
        rows = torch.cat(self._rows)
        self._rows.clear()
        if self.accelerator.num_processes > 1:
            rows = self.accelerator.gather(rows)
        return rows.cpu().numpy()

    def _record(self, rows: np.ndarray | None) -> np.ndarray | None:
        """Hand `rows` to the recorder; at a log, returns all rows since the last one, a checkpoint between or not."""
        if rows is not None:
            self.recorder.add(rows)
            self._unlogged.append(rows)
        return np.concatenate(self._unlogged) if self._unlogged else None

    def _global_batch(self) -> int:
        args = self.args
        return args.per_device_train_batch_size * args.gradient_accumulation_steps * self.accelerator.num_processes

    def start_clock(self) -> None:
        """Mark the beginning of the first step, so that its time is known too."""
        self._clock = time.perf_counter()

    # -- optimiser and checkpoints ---------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model) if model is not None else super().create_optimizer()
        parameters = [parameter for parameter in self.rule.parameters() if parameter.requires_grad]
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if parameters and id(parameters[0]) not in known:
            optimizer.add_param_group({"params": parameters, "lr": self.rule.head_learning_rate, "weight_decay": 0.0})
        return optimizer

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # before TRL's part: that ends with trainer_state.json, which makes the checkpoint count as whole
        self._record(self._gather_rows())
        if self.accelerator.is_main_process:
            state = {key: value.detach().cpu().contiguous() for key, value in self.rule.state_dict().items()}
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            if state:
                folder.mkdir(parents=True, exist_ok=True)
                save_file(state, folder / RULE_STATE)
            self.recorder.flush(self.state.global_step)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        path = Path(resume_from_checkpoint) / RULE_STATE
        if path.is_file():
            self.rule.load_state_dict(load_file(path))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints are internal; the policy gets its card once, when it is saved."""


class _HeadGradients(TrainerCallback):
    """Averages the rule's gradients over ranks before the optimiser's step (DDP does not see them); notes their norm."""

    def __init__(self, trainer: DynamicBetaDPOTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: DPOConfig, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.start_clock()

    def on_pre_optimizer_step(self, args: DPOConfig, state: Any, control: Any, **kwargs: Any) -> None:
        gradients = [p.grad for p in self.trainer.rule.parameters() if p.grad is not None]
        if not gradients:
            return
        if self.trainer.accelerator.num_processes > 1:
            for gradient in gradients:
                torch.distributed.all_reduce(gradient)
                gradient.div_(self.trainer.accelerator.num_processes)
        self.trainer._head_grad_norm = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])))

    def on_optimizer_step(self, args: DPOConfig, state: Any, control: Any, **kwargs: Any) -> None:
        # Trainer zeroes the gradients of its model only, and the rule is not part of it
        self.trainer.rule.zero_grad(set_to_none=True)


def _summary(rows: np.ndarray) -> dict[str, float]:
    """Means and spreads over the rows of one log interval."""
    column = {name: rows[:, i] for i, name in enumerate(NUMERIC_COLUMNS)}
    beta, delta, nll = column["dynamic_beta"], column["delta"], column["log_prompt_perplexity"]
    known = nll[np.isfinite(nll)]
    result = {
        "dynamic_beta": beta.mean(),
        "dynamic_beta_std": beta.std(),
        "dynamic_beta_min": beta.min(),
        "dynamic_beta_max": beta.max(),
        "delta": delta.mean(),
        "delta_std": delta.std(),
        "loss_at_beta0": column["loss_at_beta0"].mean(),
        "gradient_weight": column["gradient_weight"].mean(),
    }
    if len(known):
        result["log_prompt_perplexity"] = known.mean()
        result["prompt_perplexity"] = np.exp(known).mean()
    return {key: float(value) for key, value in result.items()}


def _tokens(rows: np.ndarray) -> float:
    start = NUMERIC_COLUMNS.index("prompt_tokens")
    return float((2 * rows[:, start] + rows[:, start + 1] + rows[:, start + 2]).sum())


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
