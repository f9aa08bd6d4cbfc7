"""Chi-squared preference optimisation (arXiv 2407.13399)."""

from __future__ import annotations

from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput

#: Largest log-ratio whose exponential is taken, so that one answer cannot make the loss infinite.
_LARGEST = 20.0


class ChiPO(PublishedRule):
    """l = -log sigmoid(beta * (phi(rho_w) - phi(rho_l))), phi(rho) = e^rho + rho, with rho of at most 20 in the exponential."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        return RuleOutput(self.pref_beta, score=self.link(batch.chosen_ratio) - self.link(batch.rejected_ratio))

    def link(self, ratio: Tensor) -> Tensor:
        """(B,) phi of log-ratios (B,)."""
        return ratio.clamp_max(_LARGEST).exp() + ratio
