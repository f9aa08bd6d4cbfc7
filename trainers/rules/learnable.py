"""beta(x) = w * log PPL(x) * (1 + eps * tanh(NN(h))): a learned correction of the perplexity rule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from trainers.rules.base import RuleBatch
from trainers.rules.learned import LearnedBeta


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

    `shared` are the parameters of `LearnedBeta`.
    `initialise` sets w so that the mean beta over the training prompts starts at `pref_beta`.
    """

    def __init__(
        self,
        hidden_size: int,
        pref_beta: float = 0.1,
        epsilon: float = 0.3,
        network: str = "mlp",
        width: int = 64,
        ppl_of: str = "prompt",
        ppl_tokens: str = "all",
        **shared: Any,
    ) -> None:
        super().__init__(pref_beta, **shared)
        self.epsilon = epsilon
        self.ppl_of = ppl_of
        self.ppl_tokens = ppl_tokens
        self.log_w = nn.Parameter(torch.tensor(math.log(pref_beta)))
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
