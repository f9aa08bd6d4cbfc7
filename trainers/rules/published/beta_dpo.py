"""beta-DPO: one beta per batch from its margins, and a filter of outlying pairs (NeurIPS 2024, arXiv 2407.08639)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.rules.base import PublishedRule, RuleBatch, RuleOutput
from trainers.rules.published.moving_statistics import MovingStatistics


class BetaDPO(PublishedRule):
    """As in the authors' code: floor(keep * B) pairs are drawn without replacement with weight
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
        assert batch.delta is not None
        local = batch.delta
        margins = batch.gather(local).double()
        kept = torch.ones(len(margins), dtype=torch.bool, device=margins.device)
        if batch.training:
            self.statistics.update(margins)
            kept = self._draw(margins)
        beta = self.pref_beta * (1 + self.a * (margins[kept].mean() - self.statistics.mean))
        first = batch.rank * len(local)
        return RuleOutput(
            beta.clamp_min(self.beta_min).to(local.dtype).expand_as(local), mask=kept[first : first + len(local)]
        )

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
