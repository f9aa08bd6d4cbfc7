"""Log-ratios of chosen to rejected when the policy's logits move away from the reference or towards it (epsilon-DPO)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.forward import ForwardPass

#: Completion tokens whose logits are held at a time.
_BLOCK = 512


@torch.no_grad()
def perturbed_log_ratios(
    policy: ForwardPass, reference: ForwardPass, head: Any, reference_head: Any, epsilon: float, pairs: int
) -> Tensor:
    """(3, B) log pi(y_w|x) - log pi(y_l|x) under z, (1 + eps) z - eps z_ref and (1 - eps) z + eps z_ref, in float32.

    Args:
        policy, reference: passes over the same batch with `completion_hidden`. head, reference_head: their LM heads.
    """
    hidden, other = policy.completion_hidden, reference.completion_hidden
    assert hidden is not None and other is not None and policy.targets is not None and policy.rows is not None
    sums = torch.zeros(3, 2 * pairs, dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), _BLOCK):
        part = slice(start, start + _BLOCK)
        z, z_ref = head(hidden[part]).float(), reference_head(other[part]).float()
        target = policy.targets[part, None]
        for kind, logits in enumerate((z, (1 + epsilon) * z - epsilon * z_ref, (1 - epsilon) * z + epsilon * z_ref)):
            log_prob = logits.gather(-1, target).squeeze(-1) - torch.logsumexp(logits, dim=-1)
            sums[kind].index_add_(0, policy.rows[part], log_prob)
    return sums[:, :pairs] - sums[:, pairs:]
