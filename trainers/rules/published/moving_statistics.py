"""Mean and spread of the margin over batches, as beta-DPO and alpha-DPO keep them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingStatistics(nn.Module):
    """Exponential moving averages of a batch's mean and standard deviation.

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
