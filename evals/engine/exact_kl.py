"""KL between the next-token distributions of two models at every token of given answers, over the whole vocabulary.

Summed over an answer that was sampled from the policy it is an unbiased estimate of the KL of the two models' answers in which
only the sampled prefix is left to chance (Amini, Vieira and Cotterell 2504.10637): its error is smaller than that of k1 and k3,
which know the log-prob of the sampled token alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from evals.engine.base import EngineError, TokenKl

Requests = Sequence[tuple[Sequence[int], Sequence[int]]]
#: Positions of which both models' logits are held at once, and positions of which the probabilities are.
_POSITIONS, _CHUNK = 1024, 128


def padded(rows: Sequence[Sequence[int]], side: str, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids with zeros at one side, and the mask of what is not padding; both of shape (rows, longest), integers."""
    ids = [torch.tensor(list(row), device=device) for row in rows]
    mask = [torch.ones_like(row) for row in ids]
    return pad_sequence(ids, True, padding_side=side), pad_sequence(mask, True, padding_side=side)


@torch.inference_mode()
def exact_kl(policy: Any, reference: Any, requests: Requests) -> list[TokenKl]:
    """Each continuation's KL(policy || reference) at each token, given all tokens before it, and the reference's log-probs.

    Raises:
        EngineError: the two models have other vocabularies.
    """
    found = [TokenKl([], [])] * len(requests)
    lengths = [len(context) + len(continuation) for context, continuation in requests]
    order = sorted(range(len(requests)), key=lengths.__getitem__)
    while order:
        size = 1
        while size < len(order) and (size + 1) * lengths[order[size]] <= _POSITIONS:
            size += 1
        part, order = order[:size], order[size:]
        # padded at the end, where a causal model does not look
        ids, mask = padded([[*requests[i][0], *requests[i][1]] for i in part], "right", policy.device)
        start = min(len(requests[i][0]) for i in part) - 1  # the vocabulary of no token before it is asked for
        given = {"input_ids": ids, "attention_mask": mask, "logits_to_keep": ids.shape[1] - start}
        ours, theirs = (model(**given).logits for model in (policy, reference))
        if ours.shape != theirs.shape:
            raise EngineError(
                f"the policy has {ours.shape[-1]} tokens in its vocabulary and the reference {theirs.shape[-1]}; "
                "the two have no KL"
            )
        for row, i in enumerate(part):
            first, last = len(requests[i][0]) - 1, lengths[i] - 1
            parts = (side[row, first - start : last - start].split(_CHUNK) for side in (ours, theirs))
            targets = ids[row, first + 1 : last + 1].split(_CHUNK)
            scored = [_scored(*one) for one in zip(*parts, targets, strict=True)]
            found[i] = TokenKl(*([v for part in side for v in part.tolist()] for side in zip(*scored, strict=True)))
    return found


def _scored(ours: torch.Tensor, theirs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL of each position and the second's log-prob of its target, shape (positions,), from logits of shape (positions,
    vocabulary); rounding does not make a KL negative."""
    p, q = ours.float().log_softmax(-1), theirs.float().log_softmax(-1)
    weight = p.exp()
    kl = torch.where(weight > 0, weight * (p - q), 0.0).sum(-1).clamp_min(0.0)
    return kl, q.gather(-1, targets[:, None]).squeeze(-1)
