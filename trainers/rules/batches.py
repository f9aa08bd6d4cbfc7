"""Rules that look at the whole micro-batch: at the margins of its pairs over all ranks."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput


class MovingStatistics(nn.Module):
    """Exponential moving averages of a batch's mean and standard deviation, as beta-DPO and alpha-DPO keep them.

    They start at 0, as in the authors' code, or (`start` first) at the first batch whose values differ.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, momentum: float, start: str = "zero") -> None:
        super().__init__()
        self.momentum, self.start = momentum, start
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("std", torch.zeros((), dtype=torch.float64))

    def update(self, values: Tensor) -> None:
        """Move towards `values` (N,), the whole global batch; N must be at least 2."""
        if values.numel() < 2:
            raise ValueError(
                "this rule needs the spread of a batch: use per_device_train_batch_size of at least 2 (or several processes)"
            )
        values = values.double()
        momentum = 0.0 if self.start == "first" and float(self.std) == 0 else self.momentum
        self.mean.mul_(momentum).add_(values.mean(), alpha=1 - momentum)
        self.std.mul_(momentum).add_(values.std(), alpha=1 - momentum)


class AlphaDPO(PublishedRule):
    """alpha-DPO (ICML 2025, arXiv 2410.10148), length-averaged scores with a margin that follows the reference:
    l = -log sigmoid(beta * (s_w - s_l - sg[gamma/beta + alpha * (delta - mu) / sigma])).

    s is the policy's log-prob per token and delta the margin of length-averaged log-ratios, as in the authors' code, where mu
    and sigma are moving averages of delta over training batches (momentum 0.9, over all ranks, updated before they are
    used, never in evaluation). With `alpha` 0 this is SimPO (arXiv 2405.14734).

    Other than there, delta is exactly 0 while the policy has not moved beyond float noise: sigma starts at 0 too, so the first
    step would divide noise by noise.
    """

    batch_statistics = True

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.statistics = MovingStatistics(self.momentum, self.start)

    def output(self, batch: RuleBatch) -> RuleOutput:
        chosen, rejected, gap = batch.chosen_average, batch.rejected_average, batch.delta_average
        target = self.margin(gap, batch)
        return RuleOutput(self.pref_beta, margin=self.pref_beta * target.to(chosen.dtype), score=chosen - rejected)

    def margin(self, gap: Tensor, batch: RuleBatch) -> Tensor:
        """(B,) gamma/beta + alpha * z, detached."""
        if self.alpha == 0:
            return gap.new_full(gap.shape, self.gamma_beta_ratio)
        if batch.training:
            self.statistics.update(batch.gather(gap))
        z = (gap.double() - self.statistics.mean) / self.statistics.std.clamp_min(1e-12)
        return self.gamma_beta_ratio + self.alpha * z


class BetaDPO(PublishedRule):
    """beta-DPO (NeurIPS 2024, arXiv 2407.08639), one beta per batch from its margins, and a filter of outlying pairs. As in the
    authors' code: floor(keep * B) pairs are drawn without replacement with weight
    exp(-((delta - mu) / sigma)^2 / 2), beta = max(pref_beta * (1 + a * (mean(delta kept) - mu)), beta_min), and the loss is
    the mean over the pairs kept.

    mu and sigma are moving averages over training batches, updated before they are used and never in evaluation. B is
    the micro-batch over all ranks: with gradient accumulation each micro-batch has its own beta. `a` 0 and `keep` 1
    give DPO; `a` 0 alone is the filter without the schedule, `keep` 1 alone the schedule without the filter. Margins are exactly
    0 while the policy has not moved beyond float noise, so that noise decides neither beta nor the draw.
    """

    batch_statistics = True
    calls: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.statistics = MovingStatistics(self.momentum, self.start)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def output(self, batch: RuleBatch) -> RuleOutput:
        margins = batch.gather(batch.delta).double()
        kept = torch.ones(len(margins), dtype=torch.bool, device=margins.device)
        if batch.training:
            self.statistics.update(margins)
            kept = self._draw(margins)
        beta = self.pref_beta * (1 + self.a * (margins[kept].mean() - self.statistics.mean))
        beta = beta.clamp_min(self.beta_min).to(batch.delta.dtype).expand_as(batch.delta)
        return RuleOutput(beta, mask=kept[batch.own])

    def _draw(self, margins: Tensor) -> Tensor:
        """(N,) bool, the pairs kept; the same on every rank, and the same again after a resume."""
        self.calls += 1
        count = int(self.keep * len(margins))
        if count == len(margins):
            return torch.ones(len(margins), dtype=torch.bool, device=margins.device)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.calls))
        spread = self.statistics.std.clamp_min(1e-12)
        weight = torch.exp(-0.5 * ((margins - self.statistics.mean) / spread) ** 2).cpu()
        # far outliers underflow to 0, and fewer positive weights than draws is an error
        picked = torch.multinomial(weight.clamp_min(1e-300), max(count, 1), replacement=False, generator=generator)
        kept = torch.zeros(len(margins), dtype=torch.bool)
        kept[picked] = True
        return kept.to(margins.device)


class RiskBeta(PublishedRule):
    """Risk-controlled beta, a batch's share of large margins steers beta:
    beta <- clip(beta * exp(alpha * tanh(gamma * u)), beta_min, beta_max) after each micro-batch of all ranks.

    u = (p - delta) / sqrt(delta * (1 - delta) / n), p the share of the n margins at or above tau, tau a moving average of their
    (1 - delta) quantile. It starts at the first batch's quantile; the public code it follows spends some batches on that first.
    """

    batch_statistics = True
    current: Tensor
    threshold: Tensor

    def __init__(self, hidden_size: int, **params: Any) -> None:
        super().__init__(hidden_size, **params)
        self.register_buffer("current", torch.tensor(self.pref_beta, dtype=torch.float64))
        self.register_buffer("threshold", torch.tensor(math.nan, dtype=torch.float64))

    def beta(self, batch: RuleBatch) -> Tensor:
        now = self.current.to(batch.delta.dtype).expand_as(batch.delta).clone()
        if batch.training:
            margins = batch.gather(batch.delta).double()
            quantile = margins.quantile(1 - self.delta)
            before = torch.where(self.threshold.isnan(), quantile, self.threshold)
            self.threshold.copy_(self.momentum * before + (1 - self.momentum) * quantile)
            share = (margins >= self.threshold).double().mean()
            u = (share - self.delta) / math.sqrt(self.delta * (1 - self.delta) / len(margins))
            moved = self.current * (self.alpha * (self.gamma * u).tanh()).exp()
            self.current.copy_(moved.clamp(self.beta_min, self.beta_max))
        return now
