"""Uni-DPO: pairs weighted by quality and by how well they are learned (arXiv 2506.10054)."""

from __future__ import annotations

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class UniDPO(PublishedRule):
    """As in the authors' code, with log-probs per token: l = w_q * w_p * -log sigmoid(beta * D) - nll * good * log pi(y_w).

    w_q = sigmoid(eta * (score_w - score_l)); w_p = (1 - sigmoid(beta * (log pi_w - log pi_l) - tau_ref))^gamma, with its
    gradient; `good` where score_w >= tau_good and the reference finds y_w more likely than the policy does.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.chosen_ratio is not None and batch.rejected_ratio is not None and batch.chosen_average is not None
        assert batch.chosen_tokens is not None and batch.rejected_tokens is not None
        assert batch.rejected_average is not None
        score, other = batch.columns[self.chosen_column], batch.columns[self.rejected_column]
        learned = self.pref_beta * (batch.chosen_average - batch.rejected_average) - self.tau_ref
        weight = (self.eta * (score - other)).sigmoid() * (1 - learned.sigmoid()) ** self.gamma
        good = (score >= self.tau_good) & (batch.chosen_ratio < 0)
        return RuleOutput(
            self.pref_beta,
            weight=weight,
            score=batch.chosen_ratio / batch.chosen_tokens - batch.rejected_ratio / batch.rejected_tokens,
            extra=-self.nll * good * batch.chosen_average,
        )
