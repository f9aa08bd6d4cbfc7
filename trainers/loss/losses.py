"""The loss of each pair, for every loss of trl.DPOTrainer that allows a beta per example.

TRL computes these inside one method and keeps only their mean. Here they are functions of a pair's numbers, for the example
rows and for rules that weight, mask or shift pairs. Parity with TRL is a test.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairTerms:
    """What a loss may look at, all (B,): f-divergence scores and log-ratios of both completions, their token counts, beta.

    `margin` is subtracted inside the loss (0 for none); `score`, if given, takes the place of chosen_score - rejected_score.
    `chosen_nll` is a pair's share of TRL's mean over the batch's chosen tokens, scaled so that its mean over pairs is that mean.
    """

    chosen_score: Tensor
    rejected_score: Tensor
    chosen_ratio: Tensor
    rejected_ratio: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    beta: Tensor
    label_smoothing: float = 0.0
    discopop_tau: float = 0.05
    margin: Tensor | None = None
    score: Tensor | None = None
    chosen_nll: Tensor | None = None

    @property
    def logit(self) -> Tensor:
        """beta * (s_w - s_l) - margin."""
        score = self.chosen_score - self.rejected_score if self.score is None else self.score
        return self.beta * score if self.margin is None else self.beta * score - self.margin

    @property
    def average_score(self) -> Tensor:
        """Difference of the scores per token."""
        chosen = self.chosen_score / self.chosen_tokens.clamp_min(1)
        return chosen - self.rejected_score / self.rejected_tokens.clamp_min(1)


def _exo_pair(t: PairTerms) -> Tensor:
    chosen = F.logsigmoid(t.logit) - math.log1p(-t.label_smoothing)
    rejected = F.logsigmoid(-t.logit) - math.log(t.label_smoothing)
    return torch.sigmoid(t.logit) * chosen + torch.sigmoid(-t.logit) * rejected


def _nca_pair(t: PairTerms) -> Tensor:
    chosen, rejected = t.beta * t.chosen_ratio, t.beta * t.rejected_ratio
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


def _discopop(t: PairTerms) -> Tensor:
    share = torch.sigmoid(t.logit / t.discopop_tau)
    return -F.logsigmoid(t.logit) * (1 - share) + torch.exp(-t.logit) * share


PAIR_LOSSES: dict[str, Callable[[PairTerms], Any]] = {
    "sigmoid": lambda t: -F.logsigmoid(t.logit),
    "hinge": lambda t: torch.relu(1 - t.logit),
    "ipo": lambda t: (t.average_score - 1 / (2 * t.beta)) ** 2,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    # equation 3 of https://ericmitchell.ai/cdpo.pdf; TRL's sigmoid loss ignores label_smoothing
    "cdpo": lambda t: -(1 - t.label_smoothing) * F.logsigmoid(t.logit) - t.label_smoothing * F.logsigmoid(-t.logit),
    "robust": lambda t: (
        ((1 - t.label_smoothing) * -F.logsigmoid(t.logit) - t.label_smoothing * -F.logsigmoid(-t.logit))
        / (1 - 2 * t.label_smoothing)
    ),
    "bco_pair": lambda t: -F.logsigmoid(t.beta * t.chosen_ratio) - F.logsigmoid(-t.beta * t.rejected_ratio),
    "sppo_hard": lambda t: (t.chosen_ratio - 0.5 / t.beta) ** 2 + (t.rejected_ratio + 0.5 / t.beta) ** 2,
    "apo_zero": lambda t: 1 - torch.sigmoid(t.beta * t.chosen_ratio) + torch.sigmoid(t.beta * t.rejected_ratio),
    "apo_down": lambda t: (
        torch.sigmoid(t.beta * t.chosen_ratio) + 1 - torch.sigmoid(t.beta * (t.chosen_ratio - t.rejected_ratio))
    ),
    "discopop": _discopop,
    "sigmoid_norm": lambda t: -F.logsigmoid(t.beta * t.average_score),
    "sft": lambda t: t.chosen_nll,
}


def pair_losses(terms: PairTerms, losses: Mapping[str, float]) -> Tensor:
    """(B,) weighted sum of the named losses (several: MPO, arXiv 2411.10442)."""
    return sum((weight * PAIR_LOSSES[name](terms) for name, weight in losses.items()), torch.zeros_like(terms.beta))


def divergence_score(log_ratio: Tensor, divergence: str, alpha: float) -> Tensor:
    """f'(pi / ref) from log-ratios (B,), for TRL's `f_divergence_type` (arXiv 2309.16240)."""
    if divergence == "forward_kl":
        return 1 - torch.exp(-log_ratio)
    if divergence == "js_divergence":
        return math.log(2) + F.logsigmoid(log_ratio)
    if divergence == "alpha_divergence" and abs(alpha - 1) >= 1e-6:
        return torch.expm1(((alpha - 1) * log_ratio).clamp_max(80.0)) / (alpha - 1)
    return log_ratio
