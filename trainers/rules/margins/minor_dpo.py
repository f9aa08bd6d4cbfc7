"""Minor DPO: the rejected answer is not pushed below the reference (arXiv 2408.09834)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class MinorDPO(PublishedRule):
    """l = -log sigmoid(beta * (rho_w - max(0, rho_l)))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        return RuleOutput(self.pref_beta, score=batch.chosen_ratio - batch.rejected_ratio.clamp_min(0))
