"""Risk-controlled beta: a batch's share of large margins steers beta."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class RiskBeta(PublishedRule):
    """beta <- clip(beta * exp(alpha * tanh(gamma * u)), beta_min, beta_max) after each micro-batch of all ranks.

    u = (p - delta) / sqrt(delta * (1 - delta) / n), p the share of the n margins at or above tau, tau a moving average of their
    (1 - delta) quantile. It starts at the first batch's quantile; the public code it follows spends some batches on that first.
    """

    batch_statistics = True
    current: Tensor
    threshold: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.register_buffer("current", torch.tensor(self.pref_beta, dtype=torch.float64))
        self.register_buffer("threshold", torch.tensor(math.nan, dtype=torch.float64))

    def beta(self, batch: RuleBatch) -> Tensor:
        assert batch.delta is not None
        now = self.current.to(batch.delta.dtype).expand_as(batch.delta).clone()
        if batch.training:
            margins = batch.gather(batch.delta).double()
            quantile = margins.quantile(1 - self.delta)
            before = torch.where(self.threshold.isnan(), quantile, self.threshold)
            self.threshold.copy_(self.momentum * before + (1 - self.momentum) * quantile)
            share = (margins >= self.threshold).double().mean()
            u = (share - self.delta) / math.sqrt(self.delta * (1 - self.delta) / len(margins))
            moved = self.current * (self.alpha * (self.gamma * u).tanh()).exp()
            self.current.copy_(moved.clamp(self.beta_min, self.beta_max))
        return now
