"""FooDPO: beta scaled by the log-perplexity of the prompt."""

from __future__ import annotations

import math

from torch import Tensor

from trainers.rules.base import BetaRule, RuleBatch


class FooDPO(BetaRule):
    """beta(x) = c * log(max(PPL(x), 1)) * pref_beta, with c = `pref_beta_scale`.

    c <= 0 falls back to the fixed beta, and so does a prompt of one token, which has no perplexity. With a `scale_schedule`
    c goes from `pref_beta_scale` to `pref_beta_scale_end` over training: linearly, or along half a cosine.
    """

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        pref_beta_scale: float = 0.5,
        scale_schedule: str = "constant",
        pref_beta_scale_end: float | None = None,
        ppl_of: str = "prompt",
        ppl_tokens: str = "all",
        attach_ppl: bool = False,
    ) -> None:
        super().__init__(pref_beta, pref_loss)
        self.start = float(pref_beta_scale)
        self.schedule = scale_schedule
        self.end = self.start if pref_beta_scale_end is None else float(pref_beta_scale_end)
        self.ppl_of = ppl_of
        self.ppl_tokens = ppl_tokens
        self.attach_ppl = attach_ppl

    def scale(self, progress: float) -> float:
        """c at a share of training in [0, 1]."""
        if self.schedule == "constant":
            return self.start
        share = progress if self.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * share

    def beta(self, batch: RuleBatch) -> float | Tensor:
        scale = self.scale(batch.progress)
        if scale <= 0:
            return self.pref_beta
        log_ppl, known = self.log_perplexity(batch)
        return self.where_known(scale * log_ppl * self.pref_beta, known)
