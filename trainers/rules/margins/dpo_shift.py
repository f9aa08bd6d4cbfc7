"""DPO-Shift: less weight on the rejected answer (arXiv 2502.07599)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class DPOShift(PublishedRule):
    """l = -log sigmoid(beta * (rho_w - f * rho_l)), f constant, or linear from `shift` to `shift_end` over training."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        end = self.shift if self.shift_end is None else self.shift_end
        factor = self.shift + (end - self.shift) * batch.progress
        return RuleOutput(self.pref_beta, score=batch.chosen_ratio - factor * batch.rejected_ratio)
