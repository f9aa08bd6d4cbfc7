"""H-DPO: the policy's entropy set by a factor of its log-probs (arXiv 2411.07595)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class HDPO(PublishedRule):
    """l = -log sigmoid(beta * (alpha * (log pi_w - log pi_l) - (log ref_w - log ref_l)))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        assert batch.chosen_logp is not None and batch.rejected_logp is not None
        delta = batch.chosen_ratio - batch.rejected_ratio
        return RuleOutput(self.pref_beta, score=delta - (1 - self.alpha) * (batch.chosen_logp - batch.rejected_logp))
