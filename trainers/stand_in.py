"""What TRL calls as `model`: one forward that also yields the prompt's perplexity, hidden states and the betas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.rules.base import RuleBatch
from trainers.scoring import build_rows, shared_prompt_lengths

if TYPE_CHECKING:
    from trainers.trainer import DynamicBetaDPOTrainer


class PolicyStandIn:
    """Runs the policy once for a batch, in rows that share the prompt or in TRL's own two-row layout.

    After the call: `prompt_nll` (B,), `has_ppl` (B,), `sequence_logps` (2B,), `raw_beta` (before the rule's bounds), and the
    trainer's `beta` is set for TRL to read.
    """

    def __init__(
        self,
        trainer: DynamicBetaDPOTrainer,
        model: Any,
        completion_mask: Tensor,
        aggregation: str | None,
        attach_ppl: bool,
        index: Tensor | None = None,
    ) -> None:
        self.trainer, self.model, self.completion_mask = trainer, model, completion_mask
        self.aggregation, self.attach_ppl = aggregation, attach_ppl
        half = len(completion_mask) // 2
        self.index = torch.arange(half, device=completion_mask.device) if index is None else index
        self.prompt_nll: Tensor
        self.has_ppl: Tensor
        self.sequence_logps: Tensor
        self.raw_beta: float | Tensor = 0.0

    def __call__(self, **kwargs: Any) -> Any:
        if not kwargs.get("fused_lm_head"):
            return self.model(**kwargs)
        trainer = self.trainer
        outputs, hidden = self.forward(kwargs)
        self.sequence_logps = outputs.log_probs.detach().sum(dim=1)
        prompt = kwargs["attention_mask"].bool() & ~self.completion_mask.bool()
        self.has_ppl = prompt.chunk(2)[0].sum(1) > 1
        batch = RuleBatch(
            self.prompt_nll if self.attach_ppl else self.prompt_nll.detach(), self.has_ppl, hidden, self.index
        )
        self.raw_beta = trainer.rule(batch)
        trainer.beta = trainer.rule.clamp(self.raw_beta) if isinstance(self.raw_beta, Tensor) else self.raw_beta
        return outputs

    def forward(self, kwargs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """TRL's outputs and the aggregated hidden states; sets `prompt_nll`. The rule is not asked."""
        ids, attention = kwargs["input_ids"], kwargs["attention_mask"]
        if self.trainer.prefix_sharing:
            lengths = shared_prompt_lengths(ids, attention, self.completion_mask)
            if lengths is not None:
                pad = self.trainer._tokenizer.pad_token_id
                rows = build_rows(ids, attention, self.completion_mask, lengths, pad)
                scores = self.model(pair_rows=rows, aggregation=self.aggregation, attach_ppl=self.attach_ppl)
                self.prompt_nll = scores.prompt_nll
                return scores, scores.hidden
        return self._two_rows(kwargs)

    def _two_rows(self, kwargs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """Stock layout: unmask the prompt's labels in the chosen half, read its NLL, mask its log-probs back to zero."""
        ids, attention = kwargs["input_ids"], kwargs["attention_mask"].bool()
        half = len(ids) // 2
        is_prompt = attention & ~self.completion_mask.bool()
        labels = kwargs["labels"].clone()
        labels[:half] = torch.where(is_prompt[:half], ids[:half], labels[:half])
        captured: list[Tensor] = []
        hook = None
        if self.aggregation is not None:

            def keep(_module: Any, _args: Any, output: Any) -> None:
                captured.append(output.last_hidden_state)

            hook = self.trainer._causal_lm().base_model.register_forward_hook(keep)
        try:
            outputs = self.model(**{**kwargs, "labels": labels})
        finally:
            if hook is not None:
                hook.remove()
        prompt_targets = is_prompt[:, 1:].clone()
        prompt_targets[half:] = False
        log_probs = outputs.log_probs
        source = log_probs if self.attach_ppl else log_probs.detach()
        count = prompt_targets[:half].sum(1)
        self.prompt_nll = -(source * prompt_targets)[:half].sum(1) / count.clamp_min(1)
        outputs.log_probs = log_probs.masked_fill(prompt_targets, 0)
        return outputs, self._aggregate(captured[0], is_prompt, attention, half) if captured else None

    def _aggregate(self, hidden: Tensor, is_prompt: Tensor, attention: Tensor, half: int) -> Tensor:
        hidden, is_prompt, attention = hidden[:half], is_prompt[:half], attention[:half]
        if self.aggregation == "mean_prompt":
            weights = is_prompt.to(hidden.dtype)
            return torch.einsum("blh,bl->bh", hidden, weights) / weights.sum(1, keepdim=True)
        last = (is_prompt if self.aggregation == "last_prompt_token" else attention).sum(1) - 1
        return hidden[torch.arange(half, device=hidden.device), last]
