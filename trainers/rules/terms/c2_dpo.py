"""C2-DPO: constrained controlled DPO, its logarithmic form (arXiv 2502.17507)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class C2DPO(PublishedRule):
    """l = -log sigmoid(beta * delta) + constraint * (rho_w + rho_l)^2."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        return RuleOutput(self.pref_beta, extra=self.constraint * (batch.chosen_ratio + batch.rejected_ratio) ** 2)
