"""ODPO: DPO with an offset (arXiv 2402.10571)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class ODPO(PublishedRule):
    """l = -log sigmoid(beta * delta - alpha * log(gap)), gap the column `column`, above 0."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        gap = batch.columns[self.column]
        if not bool((gap > 0).all()):
            raise ValueError(f"rule 'odpo' takes the logarithm of {self.column!r}, which must be above 0 in every row")
        return RuleOutput(self.pref_beta, margin=self.alpha * gap.log())
