"""Published rules that shift or replace the log-ratio margin; rho_w, rho_l: the log-ratios of chosen and rejected answer."""

import torch

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class BPO(PublishedRule):
    """Balanced preference optimisation (arXiv 2506.03557): l = -log sigmoid(beta * min(rho_w, -balance * rho_l))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.pref_beta, score=torch.minimum(batch.chosen_ratio, -self.balance * batch.rejected_ratio))


class ChiPO(PublishedRule):
    """Chi-squared preference optimisation (arXiv 2407.13399): l = -log sigmoid(beta * (phi(rho_w) - phi(rho_l))),
    phi(rho) = e^rho + rho, with rho of at most 20 in the exponential, so that one answer cannot make the loss infinite."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        chosen, rejected = (rho.clamp_max(20.0).exp() + rho for rho in (batch.chosen_ratio, batch.rejected_ratio))
        return RuleOutput(self.pref_beta, score=chosen - rejected)


class DPOShift(PublishedRule):
    """DPO-Shift (arXiv 2502.07599): less weight on the rejected answer. l = -log sigmoid(beta * (rho_w - f * rho_l)), f constant,
    or linear from `shift` to `shift_end` over training."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        end = self.shift if self.shift_end is None else self.shift_end
        factor = self.shift + (end - self.shift) * batch.progress
        return RuleOutput(self.pref_beta, score=batch.chosen_ratio - factor * batch.rejected_ratio)


class DPOP(PublishedRule):
    """DPO-Positive (Smaug, arXiv 2402.13228): l = -log sigmoid(beta * (rho_w - rho_l - strength * max(0, -rho_w)))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        lost = (-batch.chosen_ratio).relu()
        return RuleOutput(self.pref_beta, score=batch.chosen_ratio - batch.rejected_ratio - self.strength * lost)


class HDPO(PublishedRule):
    """H-DPO (arXiv 2411.07595): the policy's entropy set by a factor of its log-probs.
    l = -log sigmoid(beta * (alpha * (log pi_w - log pi_l) - (log ref_w - log ref_l)))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        delta = batch.chosen_ratio - batch.rejected_ratio
        return RuleOutput(self.pref_beta, score=delta - (1 - self.alpha) * (batch.chosen_logp - batch.rejected_logp))


class MinorDPO(PublishedRule):
    """Minor DPO (arXiv 2408.09834): the rejected answer is not pushed below the reference.
    l = -log sigmoid(beta * (rho_w - max(0, rho_l)))."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.pref_beta, score=batch.chosen_ratio - batch.rejected_ratio.clamp_min(0))


class ODPO(PublishedRule):
    """DPO with an offset (arXiv 2402.10571): l = -log sigmoid(beta * delta - alpha * log(gap)), gap the column `column`."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        gap = batch.columns[self.column]
        if not bool((gap > 0).all()):
            raise ValueError(f"rule 'odpo' takes the logarithm of {self.column!r}, which must be above 0 in every row")
        return RuleOutput(self.pref_beta, margin=self.alpha * gap.log())


class RDPO(PublishedRule):
    """Length-regularised DPO (arXiv 2403.19159): l = -log sigmoid(beta * delta + alpha * (|y_w| - |y_l|)), lengths in tokens.

    The sign is that of the paper's derivation, from a reward of r - alpha |y|: pairs whose chosen answer is the longer pull less.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.pref_beta, margin=-self.alpha * (batch.chosen_tokens - batch.rejected_tokens))
