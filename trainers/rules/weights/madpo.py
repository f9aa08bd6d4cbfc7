"""MADPO: pairs weighted by a reward model's margin (arXiv 2510.05342)."""

from __future__ import annotations

import torch

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class MADPO(PublishedRule):
    """l = w(h) * -log sigmoid(beta * delta), h the column `column`.

    w = sigmoid(c h) / sigmoid(h) where h > -tau, else 1; c = c_min + (c_max - c_min) / (1 + (c_max - 1) / (1 - c_min) *
    exp(rate * (|h| - tau))), which is 1 at |h| = tau, c_max at small and c_min at large margins.
    """

    def output(self, batch: RuleBatch) -> RuleOutput:
        h = batch.columns[self.column]
        odds = (self.c_max - 1) / (1 - self.c_min) * (self.rate * (h.abs() - self.tau)).exp()
        c = self.c_min + (self.c_max - self.c_min) / (1 + odds)
        weight = torch.where(h > -self.tau, (c * h).sigmoid() / h.sigmoid(), torch.ones_like(h))
        return RuleOutput(self.pref_beta, weight=weight)
