"""Cal-DPO: log-ratios calibrated to a scale (arXiv 2412.14516)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class CalDPO(PublishedRule):
    """l = -log sigmoid(delta) + calibration * ((rho_w - 1 / (2 beta))^2 + (rho_l + 1 / (2 beta))^2).

    As in the authors' code the sigmoid has no beta; `pref_beta` sets the calibration's target alone, and the recorded beta is 1.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None
        target = 1 / (2 * self.pref_beta)
        distance = (batch.chosen_ratio - target) ** 2 + (batch.rejected_ratio + target) ** 2
        return RuleOutput(1.0, extra=self.calibration * distance)
