"""FocalPO: pairs that are ranked right count more (arXiv 2501.06645)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class FocalPO(PublishedRule):
    """l = sg[sigmoid(beta * delta)^gamma] * -log sigmoid(beta * delta)."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.delta is not None
        return RuleOutput(self.pref_beta, weight=(self.pref_beta * batch.delta).sigmoid() ** self.gamma)
