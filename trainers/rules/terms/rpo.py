"""DPO with the chosen answer's likelihood (arXiv 2404.19733)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class RPO(PublishedRule):
    """l = -log sigmoid(beta * delta) - nll * log pi(y_w|x) / |y_w|, answer tokens only.

    TRL's `sft` loss averages over the tokens of a batch instead: `pref_loss: [sigmoid, sft]`.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_average is not None
        return RuleOutput(self.pref_beta, extra=-self.nll * batch.chosen_average)
