"""KTO (arXiv 2402.01306) with a beta per example: a thin subclass of trl.KTOTrainer.

An answer's loss is w * (1 - sigmoid(+-beta * (log pi(y|x) / ref(y|x) - KL))), with + for a desirable answer. TRL splits the
batch by label and multiplies each part by `self.beta`, so a (B,) tensor does not fit in there: with a float beta TRL's own
loss is used, bit for bit; with a beta per example TRL is run at `pref_beta` and the loss and rewards are formed again here from
the log-probs of the same forward pass.
"""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import KTOTrainer

from trainers.trainer.collator import Batch
from trainers.trainer.recorded import RecordedWithReference


def _kto_losses(log_ratio: Tensor, kl: Tensor | float, beta: Tensor | float, label: Tensor) -> Tensor:
    """(B,) 1 - sigmoid(s * beta * (log_ratio - kl)) with s = 1 where `label`, else -1.

    Equation 7 of the paper without its weights; with kl = 0 it is APO-zero's unpaired loss (arXiv 2408.06266).
    """
    sign = label.to(log_ratio.dtype) * 2 - 1
    return 1 - torch.sigmoid(sign * beta * (log_ratio - kl))


class _KTOStandIn:
    """What TRL calls as `model`: one forward that also yields the prompts' perplexity, and from it the betas.

    After the call: `logps` (B,) with their gradient, `prompt_nll` and `prompt_tokens` (B,), `beta`, `aux_loss`.
    """

    def __init__(self, trainer: "DynamicBetaKTOTrainer", model: Any, inputs: Batch, index: Tensor) -> None:
        self.trainer, self.model, self.index = trainer, model, index
        self.completion = inputs["completion_mask"].bool()

    def __call__(self, **kwargs: Any) -> Any:
        if not kwargs.get("fused_lm_head"):
            return self.model(**kwargs)
        ids = kwargs["input_ids"]
        is_prompt = kwargs["attention_mask"].bool() & ~self.completion
        outputs = self.model(**{**kwargs, "labels": torch.where(is_prompt, ids, kwargs["labels"])})
        counted = is_prompt[:, 1:] & is_prompt[:, :-1]
        self.prompt_tokens = counted.sum(1)
        self.prompt_nll = -(outputs.log_probs.detach() * counted).sum(1) / self.prompt_tokens.clamp_min(1)
        outputs.log_probs = outputs.log_probs.masked_fill(is_prompt[:, 1:], 0)
        self.logps = outputs.log_probs.sum(-1)
        self.aux_loss = outputs.aux_loss
        self.beta = self.trainer.ask_rule(self.prompt_nll, self.prompt_tokens, self.index)
        return outputs


class DynamicBetaKTOTrainer(RecordedWithReference, KTOTrainer):
    """KTO with the beta of each answer given by `rule`; `train_dataset` has an integer column `example_index`."""

    sharing_reason = "objective kto runs TRL's own rows"

    def compute_ref_log_probs(self, model: Any, inputs: Batch) -> tuple[Tensor, Tensor | None]:
        self.reference_forwards += 1
        return super().compute_ref_log_probs(model, inputs)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """TRL's pass over the same batches, kept in memory: its cache file is out of other ranks' reach."""
        logps: list[float] = []
        kl_logps: list[float] = []
        for start in range(0, len(dataset), batch_size):
            batch = self.collate(dataset, range(start, min(start + batch_size, len(dataset))))
            own, mismatched = self.compute_ref_log_probs(self.ref_model or self.model, batch)
            logps += own.double().tolist()
            kl_logps += mismatched.double().tolist() if mismatched is not None else []
        dataset = dataset.add_column("ref_logps", logps)
        return dataset.add_column("ref_KL_logps", kl_logps) if kl_logps else dataset

    def _compute_kl_logps(self, model: Any, batch: Batch) -> Any:
        # mismatched answers only estimate the KL term: no rule to ask
        return super()._compute_kl_logps(model.model if isinstance(model, _KTOStandIn) else model, batch)

    def _compute_loss(self, model: Any, inputs: Batch, return_outputs: bool) -> Any:
        inputs = dict(inputs)
        index = inputs.pop("example_index", torch.arange(len(inputs["input_ids"]), device=inputs["input_ids"].device))
        if self.reference_in_loop:
            logps, kl_logps = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs["ref_logps"] = logps
            if kl_logps is not None:
                inputs["ref_KL_logps"] = kl_logps
        policy = _KTOStandIn(self, model, inputs, index)
        self.beta = self.rule.pref_beta
        result = super()._compute_loss(policy, inputs, return_outputs)
        loss = result[0] if return_outputs else result
        label = inputs["label"].bool()
        log_ratio = policy.logps - inputs["ref_logps"]
        mode = "train" if self.model.training else "eval"
        kl = float(self._metrics[mode]["kl"][-1])
        if isinstance(policy.beta, Tensor):
            losses = self._label_weights(label) * _kto_losses(log_ratio, kl, policy.beta, label)
            loss = losses.mean()
            if self.aux_loss_enabled:
                loss = loss + self.router_aux_loss_coef * policy.aux_loss
            self._correct_rewards(self._metrics[mode], policy.beta * log_ratio.detach(), label)
        self._add_example_rows(policy, inputs, log_ratio.detach().double(), kl, label)
        return (loss, result[1]) if return_outputs else loss

    def _label_weights(self, label: Tensor) -> Tensor:
        return torch.where(label, float(self.desirable_weight), float(self.undesirable_weight))

    def _correct_rewards(self, metrics: dict[str, list[float]], rewards: Tensor, label: Tensor) -> None:
        """Replace the rewards TRL noted at `pref_beta` by those at each example's beta, averaged over ranks as TRL does."""
        means = {}
        for name, mask in (("chosen", label), ("rejected", ~label)):
            count = self.accelerator.gather_for_metrics(mask.sum()).sum().item()
            total = self.accelerator.gather_for_metrics((rewards * mask).sum()).sum().item()
            if count > 0:
                means[name] = metrics[f"rewards/{name}"][-1] = total / count
        if len(means) == 2:
            metrics["rewards/margins"][-1] = means["chosen"] - means["rejected"]

    @torch.no_grad()
    def _add_example_rows(
        self, policy: _KTOStandIn, inputs: Batch, log_ratio: Tensor, kl: float, label: Tensor
    ) -> None:
        """A row has the columns of its own answer, chosen or rejected; those of the other one are null, and so is delta."""
        beta = torch.as_tensor(policy.beta, dtype=torch.float64, device=log_ratio.device).expand_as(log_ratio)
        tokens = inputs["completion_mask"].sum(1)
        weight = self._label_weights(label).double()
        losses = _kto_losses(log_ratio, kl, beta, label)
        columns = {
            "example_index": policy.index,
            "prompt_tokens": inputs["attention_mask"].sum(1) - tokens,
            "dynamic_beta": beta,
            "loss": weight * losses,
            "loss_at_beta0": _kto_losses(log_ratio, kl, self.rule.pref_beta, label),
            "weight": weight,
            "gradient_weight": weight * beta * losses * (1 - losses),
        }
        for name, mask in (("chosen", label), ("rejected", ~label)):
            for column, values in (
                (f"{name}_tokens", tokens),
                (f"policy_{name}_logp", policy.logps),
                (f"ref_{name}_logp", inputs["ref_logps"]),
            ):
                columns[column] = values.double().masked_fill(~mask, float("nan"))
        self.add_rows(columns, policy.prompt_nll, policy.prompt_tokens)
