"""FooDPO: beta scaled by the log-perplexity of the prompt."""

from __future__ import annotations

from torch import Tensor

from trainers.rules.base import BetaRule, RuleBatch


class FooDPO(BetaRule):
    """beta(x) = c * log(max(PPL(x), 1)) * pref_beta, with c = `pref_beta_scale`.

    c <= 0 falls back to the fixed beta, and so does a prompt of one token, which has no perplexity.
    """

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        pref_beta_scale: float = 0.5,
        attach_ppl: bool = False,
    ) -> None:
        super().__init__(pref_beta, pref_loss)
        self.scale = float(pref_beta_scale)
        self.attach_ppl = attach_ppl

    def beta(self, batch: RuleBatch) -> float | Tensor:
        if self.scale <= 0:
            return self.pref_beta
        return self.with_fallback(self.scale * batch.log_ppl.clamp_min(0.0) * self.pref_beta, batch)
