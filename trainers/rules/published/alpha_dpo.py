"""alpha-DPO: length-averaged scores with a margin that follows the reference (ICML 2025, arXiv 2410.10148)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput
from trainers.rules.published.moving_statistics import MovingStatistics


class AlphaDPO(PublishedRule):
    """l = -log sigmoid(beta * (s_w - s_l - sg[gamma/beta + alpha * (delta - mu) / sigma])).

    s is the policy's log-prob per token and delta the margin of length-averaged log-ratios, as in the authors' code, where mu
    and sigma are moving averages of delta over training batches (momentum 0.9, over all ranks, updated before they are
    used, never in evaluation). With `alpha` 0 this is SimPO (arXiv 2405.14734).

    Other than there, delta is exactly 0 while the policy has not moved beyond float noise: sigma starts at 0 too, so the first
    step would divide noise by noise.
    """

    batch_statistics = True

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.statistics = MovingStatistics(self.momentum, self.start)

    def output(self, batch: RuleBatch) -> RuleOutput:
        chosen, rejected, gap = batch.chosen_average, batch.rejected_average, batch.delta_average
        assert chosen is not None and rejected is not None and gap is not None
        target = self.margin(gap, batch)
        return RuleOutput(self.pref_beta, margin=self.pref_beta * target.to(chosen.dtype), score=chosen - rejected)

    def margin(self, gap: Tensor, batch: RuleBatch) -> Tensor:
        """(B,) gamma/beta + alpha * z, detached."""
        if self.alpha == 0:
            return gap.new_full(gap.shape, self.gamma_beta_ratio)
        if batch.training:
            self.statistics.update(batch.gather(gap))
        z = (gap.double() - self.statistics.mean) / self.statistics.std.clamp_min(1e-12)
        return self.gamma_beta_ratio + self.alpha * z
