"""Published rules that weight the pairs' losses."""

import torch
import torch.nn.functional as F

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class DrDPO(PublishedRule):
    """Dr. DPO, the worst case over distributions near the batch's (arXiv 2407.07880): L = -b log mean_i exp(-l_i / b), l_i the
    DPO loss, over the micro-batch of all ranks.

    Its gradient is the mean of l_i weighted by N softmax(-l / b); a constant makes the value the paper's too.
    """

    batch_statistics = True

    def output(self, batch: RuleBatch) -> RuleOutput:
        losses = -F.logsigmoid(self.pref_beta * batch.gather(batch.delta).double())
        scaled = -losses / self.beta_prime
        weight = len(losses) * scaled.softmax(0)
        value = -self.beta_prime * (scaled.logsumexp(0) - torch.tensor(float(len(losses))).log())
        extra = (value - (weight * losses).mean()).expand_as(batch.delta)
        return RuleOutput(self.pref_beta, weight=weight[batch.own], extra=extra)


class FocalPO(PublishedRule):
    """Pairs that are ranked right count more (arXiv 2501.06645):
    l = sg[sigmoid(beta * delta)^gamma] * -log sigmoid(beta * delta)."""

    def output(self, batch: RuleBatch) -> RuleOutput:
        return RuleOutput(self.pref_beta, weight=(self.pref_beta * batch.delta).sigmoid() ** self.gamma)


class MADPO(PublishedRule):
    """Pairs weighted by a reward model's margin (arXiv 2510.05342): l = w(h) * -log sigmoid(beta * delta), h the column `column`.

    w = sigmoid(c h) / sigmoid(h) where h > -tau, else 1; c = c_min + (c_max - c_min) / (1 + (c_max - 1) / (1 - c_min) *
    exp(rate * (|h| - tau))), which is 1 at |h| = tau, c_max at small and c_min at large margins.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        h = batch.columns[self.column]
        odds = (self.c_max - 1) / (1 - self.c_min) * (self.rate * (h.abs() - self.tau)).exp()
        c = self.c_min + (self.c_max - self.c_min) / (1 + odds)
        weight = torch.where(h > -self.tau, (c * h).sigmoid() / h.sigmoid(), torch.ones_like(h))
        return RuleOutput(self.pref_beta, weight=weight)


class TURDPO(PublishedRule):
    """TUR-DPO, pairs weighted by their certainty, with a shaping reward inside (arXiv 2605.00224):
    l = w * -log sigmoid(beta * delta + gamma * dr), w and dr the columns `weight_column` and `reward_column`.

    The paper computes both while it trains, from reasoning graphs of the answers; here they come with the data.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        margin = -self.gamma * batch.columns[self.reward_column]
        return RuleOutput(self.pref_beta, weight=batch.columns[self.weight_column], margin=margin)


class UniDPO(PublishedRule):
    """Uni-DPO, pairs weighted by quality and by how well they are learned (arXiv 2506.10054). As in the authors' code, with
    log-probs per token: l = w_q * w_p * -log sigmoid(beta * D) - nll * good * log pi(y_w).

    w_q = sigmoid(eta * (score_w - score_l)); w_p = (1 - sigmoid(beta * (log pi_w - log pi_l) - tau_ref))^gamma, with its
    gradient; `good` where score_w >= tau_good and the reference finds y_w more likely than the policy does.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        score, other = batch.columns[self.chosen_column], batch.columns[self.rejected_column]
        learned = self.pref_beta * (batch.chosen_average - batch.rejected_average) - self.tau_ref
        good = (score >= self.tau_good) & (batch.chosen_ratio < 0)
        return RuleOutput(
            self.pref_beta,
            weight=(self.eta * (score - other)).sigmoid() * (1 - learned.sigmoid()) ** self.gamma,
            score=batch.chosen_ratio / batch.chosen_tokens - batch.rejected_ratio / batch.rejected_tokens,
            extra=-self.nll * good * batch.chosen_average,
        )
