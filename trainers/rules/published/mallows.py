"""MallowsPO-theta: beta from the dispersion of the reference's answers (arXiv 2405.14953)."""

from __future__ import annotations

import math

from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class Mallows(PublishedRule):
    """beta_i = pref_beta * (-phi * log H_i), H_i the reference's token entropy over log V: the mean of the two answers' means.

    A prompt whose answers are certain (H small) gets a large beta, the opposite of FooDPO's direction. H is kept within
    [1e-6, 1]: an entropy of zero would give an infinite beta.
    """

    needs_reference_entropy = True

    def beta(self, batch: RuleBatch) -> Tensor:
        assert batch.reference_entropies is not None and self.vocabulary_size > 1
        share = (batch.reference_entropies.mean(0) / math.log(self.vocabulary_size)).clamp(1e-6, 1.0)
        return self.pref_beta * (-self.phi * share.log())
