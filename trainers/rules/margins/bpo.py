"""BPO: balanced preference optimisation (arXiv 2506.03557)."""

from __future__ import annotations

import torch

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class BPO(PublishedRule):
    """l = -log sigmoid(beta * min(rho_w, -balance * rho_l))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        return RuleOutput(self.pref_beta, score=torch.minimum(batch.chosen_ratio, -self.balance * batch.rejected_ratio))
