"""The interface of a beta rule: what it is given for a batch of pairs, what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RuleBatch:
    """What a rule may look at, for B pairs.

    Attributes:
        log_ppl: (B,) mean negative log-likelihood of the prompt's tokens after the first, nats per token, under
            the policy. Detached unless the rule sets `attach_ppl`. Zero where `has_ppl` is False.
        has_ppl: (B,) bool; False for prompts of one token, which have no perplexity.
        hidden: (B, H) the policy's last hidden state, aggregated as the rule asked, or None if it did not ask.
        example_index: (B,) position of each pair in the training set.
    """

    log_ppl: Tensor
    has_ppl: Tensor
    hidden: Tensor | None
    example_index: Tensor


class BetaRule(nn.Module):
    """A rule maps a batch of pairs to one beta each.

    Subclasses implement `beta`. Parameters and buffers of the module are saved with every checkpoint; parameters get
    a group of their own in the optimiser with learning rate `head_learning_rate`.

    Attributes:
        aggregation: None, or which hidden states to hand over: last_prompt_token, mean_prompt, last_completion_token.
        attach_ppl: whether the gradient may flow through `log_ppl`.
    """

    aggregation: str | None = None
    attach_ppl: bool = False
    head_learning_rate: float = 1e-3

    def __init__(self, pref_beta: float = 0.1, pref_loss: str = "sigmoid") -> None:
        super().__init__()
        self.pref_beta = float(pref_beta)
        self.pref_loss = pref_loss

    def initialise(self, mean_log_ppl: float) -> None:
        """Called once before training with the reference's mean log-perplexity over the training prompts."""

    def beta(self, batch: RuleBatch) -> float | Tensor:
        """The beta of each pair: a float for all of them, or a tensor of shape (B,)."""
        raise NotImplementedError

    def forward(self, batch: RuleBatch) -> float | Tensor:
        """`beta` in float32: under autocast a head would round betas to eight bits, and its bounds with them."""
        with torch.autocast(batch.log_ppl.device.type, enabled=False):
            return self.beta(batch)

    def penalty(self, beta: Tensor) -> Tensor | None:
        """A scalar added to the loss, or None."""
        return None

    def clamp(self, beta: Tensor) -> Tensor:
        """Beta within the rule's bounds (none by default)."""
        return beta

    def at_bound(self, beta: Tensor) -> Tensor | None:
        """(B,) bool, True where beta sits at a bound of the rule; None for a rule without bounds."""
        return None

    def with_fallback(self, beta: Tensor, batch: RuleBatch) -> Tensor:
        """`beta`, with `pref_beta` for prompts that have no perplexity."""
        return torch.where(batch.has_ppl, beta, torch.full_like(beta, self.pref_beta))
