"""One trainer for every beta rule: a thin subclass of trl.DPOTrainer.

TRL's `_compute_loss` reads `self.beta` after the policy's forward and multiplies elementwise. So a stand-in for the model runs
the policy, reads the prompt's log-likelihood and hidden states from the same forward, asks the rule for the betas, sets
`self.beta` and hands TRL its per-token log-probs. With a constant rule and `prefix_sharing=False` this is stock TRL, bit for bit.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from trainers.common import refuse
from trainers.loss.forward import sequence_logps
from trainers.loss.stand_in import PairInputs, PolicyStandIn, example_rows, total_loss, wpo_weights
from trainers.rules.base import BetaRule, RuleBatch
from trainers.trainer.collapse import CollapseDetector
from trainers.trainer.collator import PAIR_COLUMNS, Batch
from trainers.trainer.probe import BetaProbe
from trainers.trainer.recorded import is_sharded
from trainers.trainer.reference import ReferenceTrainer, completion_entropies

_RULE_STATE = "rule.safetensors"
_PROBE_STATE = "probe.safetensors"


class DynamicBetaDPOTrainer(ReferenceTrainer):
    """DPO with the beta of each pair given by `rule`.

    Args:
        rule: the beta rule; its parameters, if any, are trained with the learning rate `rule.head_learning_rate`.
        kwargs: of `ReferenceTrainer` and trl.DPOTrainer. `train_dataset` has an integer column `example_index`.
    """

    def __init__(self, *args: Any, rule: BetaRule, **kwargs: Any) -> None:
        self.head_grad_norm: float | None = None
        self.signal = self.stock_terms_known = False
        self._penalties: list[Tensor] = []
        self.collapse = CollapseDetector(rule)
        super().__init__(*args, rule=rule, **kwargs)
        names = [rule.pref_loss] if isinstance(rule.pref_loss, str) else rule.pref_loss
        self.losses = dict(zip(names, self.loss_weights, strict=True))
        self.trl_losses = dict(zip(self.loss_types, self.loss_weights, strict=True))
        refuse(
            ValueError,
            (
                rule.perturbation is not None and is_sharded(self),
                "this rule reads the LM head outside the model's forward, which sharded weights do not allow; use DDP",
            ),
            (
                rule.perturbation is not None and not self.reference_in_loop,
                "this rule needs the reference's logits: set precompute_ref_log_probs to False",
            ),
        )
        self.add_callback(_RuleCallback(self))

    def initialise_rule(self) -> None:
        """Hand the rule the reference's log-perplexities of the training set, once, after the check of the first batch."""
        self._prepare_scoring()
        if not self.reference_scores:  # the reference runs in every step, so nothing is in the store yet
            size = self.args.per_device_train_batch_size
            for start in range(0, len(self.train_dataset), size):
                indices = range(start, min(start + size, len(self.train_dataset)))
                self.reference_scores += self._reference_batch(self.collate(self.train_dataset, indices))
        scores = {
            name: torch.tensor([getattr(score, name) for score in self.reference_scores], dtype=torch.float64)
            for name in ("prompt_nll", "prompt_tokens", "response_nll", "response_tokens")
        }
        seen = RuleBatch(
            log_ppl=scores["prompt_nll"],
            has_ppl=scores["prompt_tokens"] > 0,
            hidden=None,
            example_index=torch.arange(len(self.reference_scores)),
            response_log_ppl=scores["response_nll"],
            prompt_tokens=scores["prompt_tokens"],
            response_tokens=scores["response_tokens"],
        )
        values, known = self.rule.log_perplexity(seen)
        self.rule.initialise(values[known] if known.any() else torch.ones(1, dtype=torch.float64))

    # -- the loss --------------------------------------------------------------------------------------------

    def _pair_inputs(self, inputs: Batch) -> PairInputs:
        """Take what is not TRL's out of `inputs`, and put the reference's log-probs in if they are computed in the loop."""
        extra = {name: inputs.pop(name, None) for name in PAIR_COLUMNS}
        reference = None
        if self.reference_in_loop:
            batch = inputs if extra["prompt_words"] is None else {**inputs, "prompt_words": extra["prompt_words"]}
            reference = self._reference_forward(batch, keep_hidden=self.rule.perturbation is not None)
            logps = sequence_logps(reference.outputs.log_probs, inputs["completion_mask"], self.ld_alpha)
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = logps.chunk(2)
            extra["ref_entropy"] = completion_entropies(reference.outputs, inputs["completion_mask"])
        if extra["example_index"] is None:
            extra["example_index"] = torch.arange(len(inputs["input_ids"]) // 2, device=inputs["input_ids"].device)
        return PairInputs(
            inputs["completion_mask"],
            inputs["ref_chosen_logps"],
            inputs["ref_rejected_logps"],
            reference=reference,
            **extra,
        )

    def _compute_loss(self, model: Any, inputs: Batch, return_outputs: bool) -> Any:
        self._prepare_scoring()
        inputs = dict(inputs)
        policy = PolicyStandIn(self, model, self._pair_inputs(inputs))
        result = super()._compute_loss(policy, inputs, return_outputs)
        loss, penalty = total_loss(self, policy, result[0] if return_outputs else result)
        if self.model.training:
            self._penalties.append(penalty)
            self.signal = self.signal or (self.collapse.learned and not bool(policy.quiet.all()))
        batch = policy.batch
        if self.model.training and batch.hidden is not None and isinstance(self.beta, Tensor):
            self.probe.add(batch.step, batch.example_index, self.beta, batch.log_ppl, batch.hidden)
        weighting = wpo_weights(policy.pass_.outputs, inputs["completion_mask"]) if self.use_weighting else None
        columns = example_rows(self, policy, inputs["attention_mask"], weighting)
        self.add_rows(columns, policy.pass_.prompt_nll.detach(), policy.pass_.prompt_tokens)
        return (loss, result[1]) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """`loss` is the pairs' loss with what TRL adds to it, as in the example rows; the rule's penalty stands beside it."""
        if "loss" in logs and self._penalties:
            mean = torch.stack(self._penalties).to(self.accelerator.device).mean()[None]
            self._penalties.clear()
            if self.collapse.learned:
                logs["anchor_penalty"] = float(self.accelerator.gather(mean).mean())
                logs["loss"] -= logs["anchor_penalty"]
        super().log(logs, start_time)

    def notes(self, rows: np.ndarray) -> dict[str, Any]:
        found = {
            "head_grad_norm": self.head_grad_norm,
            "beta_collapse": self.collapse.update(rows, self.state.global_step),
        }
        return {key: value for key, value in found.items() if value is not None}

    # -- optimiser and checkpoints ---------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model) if model is not None else super().create_optimizer()
        parameters = [parameter for parameter in self.rule.parameters() if parameter.requires_grad]
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if parameters and id(parameters[0]) not in known:
            optimizer.add_param_group({"params": parameters, "lr": self.rule.head_learning_rate, "weight_decay": 0.0})
        return optimizer

    def checkpoint_states(self) -> dict[str, nn.Module | BetaProbe]:
        return {_RULE_STATE: self.rule, _PROBE_STATE: self.probe, **super().checkpoint_states()}


class _RuleCallback(TrainerCallback):
    """Averages the rule's gradients over ranks before the optimiser's step (DDP does not see them), notes their norm,
    and lets the rule change its state after the step.

    A step in which no pair of any rank moved beyond float noise leaves a head alone: its gradient is the margin's noise, and Adam
    would take a full step by its sign.
    """

    def __init__(self, trainer: DynamicBetaDPOTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        gradients = [p.grad for p in self.trainer.rule.parameters() if p.grad is not None]
        if not gradients:
            return
        signal = self.trainer.accelerator.gather(torch.tensor([self.trainer.signal], device=gradients[0].device)).any()
        self.trainer.signal = False
        if not signal:
            self.trainer.rule.zero_grad(set_to_none=True)
            self.trainer.head_grad_norm = 0.0
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
