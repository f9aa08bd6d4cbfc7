"""Published rules that add a term to the loss: rho_w and rho_l are the log-ratios of chosen and rejected answer, delta their
difference."""

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class C2DPO(PublishedRule):
    """Constrained controlled DPO, its logarithmic form (arXiv 2502.17507):
    l = -log sigmoid(beta * delta) + constraint * (rho_w + rho_l)^2."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.pref_beta, extra=self.constraint * (batch.chosen_ratio + batch.rejected_ratio) ** 2)


class CalDPO(PublishedRule):
    """Log-ratios calibrated to a scale (Cal-DPO, arXiv 2412.14516):
    l = -log sigmoid(delta) + calibration * ((rho_w - 1 / (2 beta))^2 + (rho_l + 1 / (2 beta))^2).

    As in the authors' code the sigmoid has no beta; `pref_beta` sets the calibration's target alone, and the recorded beta is 1.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        target = 1 / (2 * self.pref_beta)
        distance = (batch.chosen_ratio - target) ** 2 + (batch.rejected_ratio + target) ** 2
        return RuleOutput(1.0, extra=self.calibration * distance)


class CDPO(PublishedRule):
    """Conservative DPO (ericmitchell.ai/cdpo.pdf): l = -(1 - e) log sigmoid(z) - e log sigmoid(-z), z = beta * delta: since
    log sigmoid(z) - log sigmoid(-z) = z, e * z is added to DPO's loss."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        z = self.pref_beta * (batch.chosen_ratio - batch.rejected_ratio)
        return RuleOutput(self.pref_beta, extra=self.label_smoothing * z)


class Robust(PublishedRule):
    """The loss that is unbiased under flipped labels (robust DPO, arXiv 2403.00409):
    l = (-(1 - e) log sigmoid(z) + e log sigmoid(-z)) / (1 - 2 e), z = beta * delta: DPO's loss minus e * z / (1 - 2 e)."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        z = self.pref_beta * (batch.chosen_ratio - batch.rejected_ratio)
        return RuleOutput(self.pref_beta, extra=-self.label_smoothing / (1 - 2 * self.label_smoothing) * z)


class RPO(PublishedRule):
    """DPO with the chosen answer's likelihood (arXiv 2404.19733): l = -log sigmoid(beta * delta) - nll * log pi(y_w|x) / |y_w|,
    answer tokens only.

    TRL's `sft` loss averages over the tokens of a batch instead: `pref_loss: [sigmoid, sft]`.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.pref_beta, extra=-self.nll * batch.chosen_average)
