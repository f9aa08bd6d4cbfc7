"""Robust DPO: the loss that is unbiased under flipped labels (arXiv 2403.00409)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class Robust(PublishedRule):
    """l = (-(1 - e) log sigmoid(z) + e log sigmoid(-z)) / (1 - 2 e), z = beta * delta: DPO's loss minus e * z / (1 - 2 e)."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        z = self.pref_beta * (batch.chosen_ratio - batch.rejected_ratio)
        return RuleOutput(self.pref_beta, extra=-self.label_smoothing / (1 - 2 * self.label_smoothing) * z)
