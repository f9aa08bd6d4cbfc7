"""Control: the parent's betas, shuffled across examples."""

from __future__ import annotations

from torch import Tensor

from trainers.rules.base import RuleBatch
from trainers.rules.parent_run import ParentRun, ReplayedRule


class Permuted(ReplayedRule):
    """The betas of each step of the parent, handed to other examples of the same step (seeded by the run's seed).

    The mean and the spread of beta stay, step by step; the link between beta and the prompt is cut. With one pair a step the
    betas of `window` steps in a row are shuffled among them.
    """

    def load_parent(self, parent: ParentRun) -> None:
        super().load_parent(parent.permuted(self.seed, self.window))

    def beta(self, batch: RuleBatch) -> Tensor:
        return self.parent_beta(batch)
