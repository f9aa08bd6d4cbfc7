"""MallowsPO-theta: beta from the dispersion of the reference's answers (arXiv 2405.14953)."""

from __future__ import annotations

import math

from torch import Tensor

from trainers.rules.base import BetaRule, RuleBatch


class Mallows(BetaRule):
    """beta_i = pref_beta * (-phi * log H_i), H_i the reference's token entropy over log V, averaged over both completions.

    A prompt whose answers are certain (H small) gets a large beta, the opposite of FooDPO's direction. H is kept within
    [1e-6, 1]: an entropy of zero would give an infinite beta.
    """

    needs_reference_entropy = True

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        phi: float = 0.29,
    ) -> None:
        super().__init__(pref_beta, pref_loss)
        self.phi = float(phi)

    def beta(self, batch: RuleBatch) -> Tensor:
        assert batch.reference_entropy is not None and self.vocabulary_size > 1
        share = (batch.reference_entropy / math.log(self.vocabulary_size)).clamp(1e-6, 1.0)
        return self.pref_beta * (-self.phi * share.log())
