"""Dr. DPO: the worst case over distributions near the batch's (arXiv 2407.07880)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class DrDPO(PublishedRule):
    """L = -b log mean_i exp(-l_i / b), l_i the DPO loss, over the micro-batch of all ranks.

    Its gradient is the mean of l_i weighted by N softmax(-l / b); a constant makes the value the paper's too.
    """

    batch_statistics = True

    def output(self, batch: RuleBatch) -> RuleOutput:
        assert batch.delta is not None
        losses = -F.logsigmoid(self.pref_beta * batch.gather(batch.delta).double())
        scaled = -losses / self.beta_prime
        weight = len(losses) * scaled.softmax(0)
        value = -self.beta_prime * (scaled.logsumexp(0) - torch.tensor(float(len(losses))).log())
        mine = slice(batch.rank * len(batch.delta), (batch.rank + 1) * len(batch.delta))
        extra = (value - (weight * losses).mean()).expand_as(batch.delta)
        return RuleOutput(self.pref_beta, weight=weight[mine], extra=extra)
