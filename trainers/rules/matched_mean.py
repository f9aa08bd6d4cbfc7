"""Control: a fixed beta equal to the mean beta a dynamic run realised."""

from __future__ import annotations

from trainers.rules.base import RuleBatch
from trainers.rules.parent_run import ParentRunError, ReplayedRule


class MatchedMean(ReplayedRule):
    """beta = mean of the parent's betas over its whole training: the average without the variation."""

    def beta(self, batch: RuleBatch) -> float:
        if self._keys is None:
            raise ParentRunError("a control needs the rows of its parent run")
        return self.mean_beta
