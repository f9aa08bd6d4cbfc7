"""Control: the parent's betas inside the sigmoid, their effect as weights divided out."""

from __future__ import annotations

from trainers.rules.base import RuleBatch, RuleOutput
from trainers.rules.parent_run import ReplayedRule


class SaturationOnly(ReplayedRule):
    """beta_i in the loss, the loss divided by beta_i / mean beta: at delta = 0 every pair pulls alike.

    Dividing by beta_i alone would multiply all gradients by 1 / beta; the mean keeps them on the parent's scale.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        beta = self.parent_beta(batch)
        return RuleOutput(beta, weight=self.mean_beta / beta)
