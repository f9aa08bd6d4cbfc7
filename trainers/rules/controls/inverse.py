"""Control: FooDPO turned round, a large beta for familiar prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.rules.base import BetaRule, RuleBatch

#: Below this log-perplexity (nats) beta grows no further: 1 / log PPL has no bound.
FLOOR = 0.1


class Inverse(BetaRule):
    """beta(x) = k / log PPL(x), k such that the mean over the training prompts equals FooDPO's with the same parameters.

    The mean is matched under the reference, before the first step.
    """

    k: Tensor

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        pref_beta_scale: float = 0.5,
        ppl_of: str = "prompt",
        ppl_tokens: str = "all",
    ) -> None:
        super().__init__(pref_beta, pref_loss)
        self.scale = float(pref_beta_scale)
        self.ppl_of = ppl_of
        self.ppl_tokens = ppl_tokens
        self.register_buffer("k", torch.tensor(0.0, dtype=torch.float64))

    def initialise(self, log_ppl: Tensor) -> None:
        log_ppl = log_ppl.double()
        target = self.scale * self.pref_beta * log_ppl.clamp_min(0.0).mean()
        self.k.copy_(target / (1 / log_ppl.clamp_min(FLOOR)).mean())

    def beta(self, batch: RuleBatch) -> Tensor:
        log_ppl, known = self.log_perplexity(batch)
        return self.where_known((self.k / log_ppl.double().clamp_min(FLOOR)).to(log_ppl.dtype), known)
