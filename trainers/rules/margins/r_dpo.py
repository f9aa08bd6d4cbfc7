"""R-DPO: length regularised DPO (arXiv 2403.19159)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class RDPO(PublishedRule):
    """l = -log sigmoid(beta * delta + alpha * (|y_w| - |y_l|)), lengths in tokens.

    The sign is that of the paper's derivation, from a reward of r - alpha |y|: pairs whose chosen answer is the longer pull less.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_tokens is not None and batch.rejected_tokens is not None
        return RuleOutput(self.pref_beta, margin=-self.alpha * (batch.chosen_tokens - batch.rejected_tokens))
