"""Learned rules: their bounds and their anchor to pref_beta, a value head, and a correction of the perplexity rule.

Inside the DPO loss a free beta has no optimum on separable data: d loss / d beta = -delta * sigmoid(-beta * delta), so a
positive margin drives beta to infinity and a negative one to zero. Hence the safeguards here.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.rules.base import PublishedRule, RuleBatch


class LearnedBeta(PublishedRule):
    """Base of the learned rules, whose parameters become attributes.

    `clamp` bounds beta to [beta_min_ratio, beta_max_ratio] * pref_beta; `penalty` is
    anchor * mean((log beta / pref_beta)^2), computed on the unbounded beta so that it pulls back from outside.
    """

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.low, self.high = self.beta_min_ratio * self.pref_beta, self.beta_max_ratio * self.pref_beta

    def features(self, hidden: Any) -> Tensor:
        """Hidden states as the head reads them: float32, detached from the policy unless asked otherwise."""
        return (hidden if self.head_gradient_to_policy else hidden.detach()).float()

    def clamp(self, beta: Tensor) -> Tensor:
        return beta.clamp(self.low, self.high)

    def penalty(self, beta: Tensor) -> Tensor | None:
        if self.anchor == 0:
            return None
        tiny = torch.finfo(beta.dtype).tiny
        return self.anchor * (beta.clamp_min(tiny) / self.pref_beta).log().square().mean()

    def at_bound(self, beta: Tensor) -> Tensor:
        tolerance = 1e-6 * self.pref_beta
        return (beta <= self.low + tolerance) | (beta >= self.high - tolerance)


def inverse_softplus(value: float) -> float:
    """z with softplus(z) = value, stable for small and large values (value > 0)."""
    return value + math.log(-math.expm1(-value))


class BetaHead(LearnedBeta):
    """A linear head v with zero weights and the bias that makes beta start at exactly `pref_beta`."""

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.value = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.constant_(self.value.bias, inverse_softplus(self.pref_beta))

    def beta(self, batch: RuleBatch) -> Tensor:
        return F.softplus(self.value(self.norm(self.features(batch.hidden))).squeeze(-1))


class _TinyTransformer(nn.Module):
    """One encoder layer over the hidden state cut into 8 tokens of equal width, mean-pooled."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.pieces = next(n for n in (8, 4, 2, 1) if hidden_size % n == 0)
        self.enter = nn.Linear(hidden_size // self.pieces, width)
        heads = 4 if width % 4 == 0 else 1
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)
        self.place = nn.Parameter(torch.randn(self.pieces, width) / math.sqrt(width))

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = self.enter(hidden.unflatten(-1, (self.pieces, -1))) + self.place
        return self.layer(tokens).mean(dim=1)


class Learnable(LearnedBeta):
    """w is kept as log w, so it stays positive; the last layer of NN starts at zero, so f(x) starts at 1.

    `initialise` sets w so that the mean beta over the training prompts starts at `pref_beta`.
    """

    def __init__(self, hidden_size: int, network: str, width: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.log_w = nn.Parameter(torch.tensor(math.log(self.pref_beta)))
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        last = nn.Linear(hidden_size if network == "linear" else width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        body: nn.Module
        if network == "linear":
            body = nn.Identity()
        elif network == "mlp":
            body = nn.Sequential(nn.Linear(hidden_size, width), nn.GELU())
        else:
            body = _TinyTransformer(hidden_size, width)
        self.network = nn.Sequential(body, last)

    def initialise(self, log_ppl: Tensor) -> None:
        with torch.no_grad():
            self.log_w.fill_(math.log(self.pref_beta / max(float(log_ppl.mean()), 1e-6)))

    def beta(self, batch: RuleBatch) -> Tensor:
        correction = 1 + self.epsilon * torch.tanh(self.network(self.norm(self.features(batch.hidden))).squeeze(-1))
        log_ppl, known = self.log_perplexity(batch)
        return self.where_known(self.log_w.exp() * log_ppl * correction, known)
