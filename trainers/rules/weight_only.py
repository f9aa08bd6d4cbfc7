"""Control: the parent's betas as weights of the examples, with a constant beta."""

from __future__ import annotations

from trainers.rules.base import RuleBatch, RuleOutput
from trainers.rules.parent_run import ParentRunError, ReplayedRule


class WeightOnly(ReplayedRule):
    """Constant beta = the parent's mean beta, loss weight beta_i / mean beta: the re-weighting without the saturation."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        if self._keys is None:
            raise ParentRunError("a control needs the rows of its parent run")
        return RuleOutput(self.mean_beta, weight=self.parent_beta(batch) / self.mean_beta)
