"""Base of the learned rules: bounds, an anchor to pref_beta, and which betas are at a bound.

Inside the DPO loss a free beta has no optimum on separable data: d loss / d beta = -delta * sigmoid(-beta * delta), so a
positive margin drives beta to infinity and a negative one to zero. Hence the safeguards here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.rules.base import BetaRule


class LearnedBeta(BetaRule):
    """Base of the learned rules.

    `clamp` bounds beta to [beta_min_ratio, beta_max_ratio] * pref_beta; `penalty` is
    anchor * mean((log beta / pref_beta)^2), computed on the unbounded beta so that it pulls back from outside.
    """

    def __init__(
        self,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        head_learning_rate: float = 1e-3,
        anchor: float = 0.1,
        beta_min_ratio: float = 0.1,
        beta_max_ratio: float = 10.0,
        aggregation: str = "last_prompt_token",
        head_gradient_to_policy: bool = False,
    ) -> None:
        super().__init__(pref_beta, pref_loss)
        self.head_learning_rate = head_learning_rate
        self.anchor = anchor
        self.low, self.high = beta_min_ratio * pref_beta, beta_max_ratio * pref_beta
        self.aggregation = aggregation
        self.head_gradient_to_policy = head_gradient_to_policy

    def features(self, hidden: Tensor | None) -> Tensor:
        """Hidden states as the head reads them: float32, detached from the policy unless asked otherwise."""
        assert hidden is not None, "a learned rule sets `aggregation`, so hidden states are handed over"
        return (hidden if self.head_gradient_to_policy else hidden.detach()).float()

    def clamp(self, beta: Tensor) -> Tensor:
        """Beta within its bounds."""
        return beta.clamp(self.low, self.high)

    def penalty(self, beta: Tensor) -> Tensor | None:
        if self.anchor == 0:
            return None
        tiny = torch.finfo(beta.dtype).tiny
        return self.anchor * (beta.clamp_min(tiny) / self.pref_beta).log().square().mean()

    def at_bound(self, beta: Tensor) -> Tensor:
        tolerance = 1e-6 * self.pref_beta
        return (beta <= self.low + tolerance) | (beta >= self.high - tolerance)


def inverse_softplus(value: float) -> float:
    """z with softplus(z) = value, stable for small and large values (value > 0)."""
    return value + math.log(-math.expm1(-value))
