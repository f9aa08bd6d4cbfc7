"""DPO-Positive (Smaug, arXiv 2402.13228)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class DPOP(PublishedRule):
    """l = -log sigmoid(beta * (delta - strength * max(0, -rho_w))), rho_w = log pi(y_w) / ref(y_w)."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        lost = (-batch.chosen_ratio).relu()
        return RuleOutput(self.pref_beta, score=batch.chosen_ratio - batch.rejected_ratio - self.strength * lost)
