"""Controls that repeat a parent run's betas with one property removed."""

from __future__ import annotations

from torch import Tensor

from trainers.rules.base import RuleBatch, RuleOutput
from trainers.rules.controls.parent_run import ParentRun, ReplayedRule


class MatchedMean(ReplayedRule):
    """beta = mean of the parent's betas over its whole training: the average without the variation."""

    def beta(self, batch: RuleBatch) -> float:
        self.parent_rows()
        return self.mean_beta


class Permuted(ReplayedRule):
    """The betas of each step of the parent, handed to other examples of the same step (seeded by the run's seed).

    The mean and the spread of beta stay, step by step; the link between beta and the prompt is cut. With one pair a step the
    betas of `window` steps in a row are shuffled among them.
    """

    def load_parent(self, parent: ParentRun) -> None:
        super().load_parent(parent.permuted(self.seed, self.window))

    def beta(self, batch: RuleBatch) -> Tensor:
        return self.parent_beta(batch)


class WeightOnly(ReplayedRule):
    """Constant beta = the parent's mean beta, loss weight beta_i / mean beta: the re-weighting without the saturation."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.mean_beta, weight=self.parent_beta(batch) / self.mean_beta)


class SaturationOnly(ReplayedRule):
    """beta_i in the loss, the loss divided by beta_i / mean beta: at delta = 0 every pair pulls alike.

    Dividing by beta_i alone would multiply all gradients by 1 / beta; the mean keeps them on the parent's scale.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        beta = self.parent_beta(batch)
        return RuleOutput(beta, weight=self.mean_beta / beta)
