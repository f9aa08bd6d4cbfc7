"""beta(x) = softplus(v(h)): a value head on the policy's last hidden state."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from trainers.rules.base import RuleBatch
from trainers.rules.learned import LearnedBeta, inverse_softplus


class BetaHead(LearnedBeta):
    """A linear head v with zero weights and the bias that makes beta start at exactly `pref_beta`.

    `shared` are the parameters of `LearnedBeta`.
    """

    def __init__(self, hidden_size: int, pref_beta: float = 0.1, **shared: Any) -> None:
        super().__init__(pref_beta, **shared)
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.value = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.constant_(self.value.bias, inverse_softplus(pref_beta))

    def beta(self, batch: RuleBatch) -> Tensor:
        return F.softplus(self.value(self.norm(self.features(batch.hidden))).squeeze(-1))
