"""epsilon-DPO: beta per pair from a perturbation of the policy towards and away from the reference (arXiv 2502.13177)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class EpsilonDPO(PublishedRule):
    """beta_i = beta / (1 + eps * step_i); after each optimiser step beta <- beta / (1 + eps * mean(step)).

    step_i is +1 where the log-ratio of chosen to rejected grows strictly when the logits move away from the reference,
    z+ = (1 + eps) z - eps z_ref, and shrinks when they move towards it, z- = (1 - eps) z + eps z_ref; -1 the other way
    round; else 0. The mean is over the global batch. beta is part of the checkpoint.
    """

    current: Tensor
    step_sum: Tensor
    step_count: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.perturbation = self.epsilon
        self.register_buffer("current", torch.tensor(self.pref_beta, dtype=torch.float64))
        self.register_buffer("step_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("step_count", torch.zeros((), dtype=torch.float64))

    def beta(self, batch: RuleBatch) -> Tensor:
        assert batch.log_ratios is not None
        now, away, towards = batch.log_ratios
        step = ((away > now) & (now > towards)).double() - ((towards > now) & (now > away)).double()
        if batch.training:
            self.step_sum += step.sum()
            self.step_count += len(step)
        return (self.current / (1 + self.epsilon * step)).to(batch.log_ppl.dtype)

    def after_optimizer_step(self, gather: Callable[[Tensor], Tensor]) -> None:
        total, count = gather(self.step_sum[None]).sum(), gather(self.step_count[None]).sum()
        self.current.div_(1 + self.epsilon * total / count.clamp_min(1))
        self.step_sum.zero_()
        self.step_count.zero_()
