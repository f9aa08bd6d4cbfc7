"""beta(x) = softplus(v(h)): a value head on the policy's last hidden state."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainers.rules.base import RuleBatch
from trainers.rules.learned import LearnedBeta, inverse_softplus


class BetaHead(LearnedBeta):
    """A linear head v with zero weights and the bias that makes beta start at exactly `pref_beta`."""

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        pref_loss: str = "sigmoid",
        head_learning_rate: float = 1e-3,
        anchor: float = 0.1,
        beta_min_ratio: float = 0.1,
        beta_max_ratio: float = 10.0,
        aggregation: str = "last_prompt_token",
        head_gradient_to_policy: bool = False,
    ) -> None:
        super().__init__(
            pref_beta,
            pref_loss,
            head_learning_rate,
            anchor,
            beta_min_ratio,
            beta_max_ratio,
            aggregation,
            head_gradient_to_policy,
        )
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.value = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.constant_(self.value.bias, inverse_softplus(pref_beta))

    def beta(self, batch: RuleBatch) -> Tensor:
        return F.softplus(self.value(self.norm(self.features(batch.hidden))).squeeze(-1))
