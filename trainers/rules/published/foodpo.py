"""FooDPO: beta scaled by the log-perplexity of the prompt."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch


class FooDPO(PublishedRule):
    """beta(x) = c * (log max(PPL(x), 1))^k * pref_beta, with c = `pref_beta_scale` and k = `power`.

    c <= 0 falls back to the fixed beta, and so does a prompt of one token, which has no perplexity. With a `scale_schedule`
    c goes from `pref_beta_scale` to `pref_beta_scale_end` over training: linearly, or along half a cosine. With `rescale: mean`
    c is what makes the mean of beta over the training prompts, under the reference, `pref_beta`: k then changes the spread of
    beta alone.
    """

    mean_power: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.register_buffer("mean_power", torch.tensor(1.0, dtype=torch.float64), persistent=False)

    def initialise(self, log_ppl: Tensor) -> None:
        self.mean_power.copy_(self.powered(log_ppl.double()).mean())

    def powered(self, log_ppl: Tensor) -> Tensor:
        """(N,) (log PPL)^k."""
        return log_ppl.clamp_min(0.0) if self.power == 1 else log_ppl.clamp_min(0.0) ** self.power

    def scale(self, progress: float) -> float:
        """c at a share of training in [0, 1]."""
        start, end = self.pref_beta_scale, self.pref_beta_scale_end
        if self.rescale == "mean":
            return 1 / max(float(self.mean_power), 1e-12)
        if end is None or self.scale_schedule == "constant":
            return start
        share = progress if self.scale_schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return start + (end - start) * share

    def beta(self, batch: RuleBatch) -> float | Tensor:
        scale = self.scale(batch.progress)
        if scale <= 0:
            return self.pref_beta
        log_ppl, known = self.log_perplexity(batch)
        return self.where_known(scale * self.powered(log_ppl) * self.pref_beta, known)
