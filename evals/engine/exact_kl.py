"""KL between the next-token distributions of two models at every token of given answers, over the whole vocabulary.

Summed over an answer that was sampled from the policy it is an unbiased estimate of the KL of the two models' answers in which
only the sampled prefix is left to chance (Amini, Vieira and Cotterell 2504.10637): its error is smaller than that of k1 and k3,
which know the log-prob of the sampled token alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evals.engine.base import EngineError

Requests = Sequence[tuple[Sequence[int], Sequence[int]]]
#: Positions of which both models' logits are held at once, and positions of which the probabilities are.
_POSITIONS, _CHUNK = 1024, 128


@torch.inference_mode()
def exact_kl(policy: Any, reference: Any, requests: Requests) -> list[list[float]]:
    """KL(policy || reference) in nats for each token of each continuation, given all tokens before it.

    Raises:
        EngineError: the two models have other vocabularies.
    """
    found: list[list[float]] = [[]] * len(requests)
    lengths = [len(context) + len(continuation) for context, continuation in requests]
    order = sorted(range(len(requests)), key=lengths.__getitem__)
    while order:
        size = 1
        while size < len(order) and (size + 1) * lengths[order[size]] <= _POSITIONS:
            size += 1
        part, order = order[:size], order[size:]
        longest = max(lengths[i] for i in part)
        ids = torch.zeros((size, longest), dtype=torch.long, device=policy.device)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(part):  # padded at the end, where a causal model does not look
            ids[row, : lengths[i]] = torch.tensor([*requests[i][0], *requests[i][1]], device=policy.device)
            mask[row, : lengths[i]] = 1
        ours, theirs = (model(input_ids=ids, attention_mask=mask).logits for model in (policy, reference))
        if ours.shape != theirs.shape:
            raise EngineError(
                f"the policy has {ours.shape[-1]} tokens in its vocabulary and the reference {theirs.shape[-1]}; "
                "the two have no KL"
            )
        for row, i in enumerate(part):
            first, last = len(requests[i][0]) - 1, lengths[i] - 1
            sides = zip(ours[row, first:last].split(_CHUNK), theirs[row, first:last].split(_CHUNK), strict=True)
            found[i] = [value for p, q in sides for value in _kl(p, q).tolist()]
    return found


def _kl(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """KL of each row, shape (positions,), from logits of shape (positions, vocabulary); rounding does not make it negative."""
    p, q = ours.float().log_softmax(-1), theirs.float().log_softmax(-1)
    weight = p.exp()
    return torch.where(weight > 0, weight * (p - q), 0.0).sum(-1).clamp_min(0.0)
