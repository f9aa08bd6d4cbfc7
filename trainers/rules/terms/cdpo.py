"""cDPO: conservative DPO (ericmitchell.ai/cdpo.pdf)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class CDPO(PublishedRule):
    """l = -(1 - e) log sigmoid(z) - e log sigmoid(-z), z = beta * delta: since log sigmoid(z) - log sigmoid(-z) = z, e * z is
    added to DPO's loss."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        z = self.pref_beta * (batch.chosen_ratio - batch.rejected_ratio)
        return RuleOutput(self.pref_beta, extra=self.label_smoothing * z)
