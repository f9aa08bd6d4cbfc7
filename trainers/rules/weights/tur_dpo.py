"""TUR-DPO: pairs weighted by their certainty, with a shaping reward inside (arXiv 2605.00224)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class TURDPO(PublishedRule):
    """l = w * -log sigmoid(beta * delta + gamma * dr), w and dr the columns `weight_column` and `reward_column`.

    The paper computes both while it trains, from reasoning graphs of the answers; here they come with the data.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        margin = -self.gamma * batch.columns[self.reward_column]
        return RuleOutput(self.pref_beta, weight=batch.columns[self.weight_column], margin=margin)
