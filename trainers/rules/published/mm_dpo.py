"""MM-DPO: beta grows with a reward margin from the data (arXiv 2502.10391)."""

from __future__ import annotations

from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class MMDPO(PublishedRule):
    """beta_i = max(beta * (1 + w * f_i), beta_min), f the column `column`; 1 - exp(-k * reward margin) in the paper."""

    def beta(self, batch: RuleBatch) -> Tensor:
        return (self.pref_beta * (1 + self.w * batch.columns[self.column])).clamp_min(self.beta_min)
