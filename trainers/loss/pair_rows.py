"""Scoring a pair in one row: prompt once, then both answers (prefix sharing, arXiv 2410.20305).

A row is [prompt, chosen, last prompt token again, rejected]. The repeated token keeps its position and sees the prompt
before it only, so the first rejected token is predicted exactly as in a row of its own. A boolean block mask keeps the two
answers apart and position ids restart. Only positions whose prediction is used go through the LM head.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

#: Rows of hidden states projected at a time; logits of a block are recomputed in the backward pass.
_BLOCK = 1024


@dataclass(frozen=True)
class PairRows:
    """B pairs laid out as B rows of length R, with the way back to TRL's (2B, L-1) layout.

    Attributes:
        input_ids, position_ids: (B, R).
        attention_mask: (B, 1, R, R) bool, True where a query (dim 2) may look at a key (dim 3).
        source, target: (N,) flat index into B*R of the position that predicts a completion token, and that token.
        destination: (N,) flat index into 2B*(L-1) where TRL expects its log-prob.
        prompt_source, prompt_target, prompt_row: (P,) the same for prompt tokens after the first.
        last_prompt, last_chosen: (B,) flat index into B*R.
        prompt_mask: (B, R) bool.
        shape: (2B, L-1).
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    source: Tensor
    target: Tensor
    destination: Tensor
    prompt_source: Tensor
    prompt_target: Tensor
    prompt_row: Tensor
    last_prompt: Tensor
    last_chosen: Tensor
    prompt_mask: Tensor
    shape: tuple[int, int]


def shared_prompt_lengths(input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> list[int] | None:
    """Prompt length of each pair, or None if some pair's two rows do not start with the same non-empty prompt.

    Args:
        input_ids, attention_mask, completion_mask: TRL's (2B, L) batch, B chosen rows then B rejected rows.
    """
    half = input_ids.size(0) // 2
    is_prompt = (attention_mask.bool() & ~completion_mask.bool()).cpu()
    ids = input_ids.cpu()
    lengths: list[int] = []
    for i in range(half):
        n = int(is_prompt[i].sum())
        same = n == int(is_prompt[half + i].sum()) and torch.equal(ids[i, :n], ids[half + i, :n])
        if n == 0 or not same or not bool(is_prompt[i, :n].all()):
            return None
        lengths.append(n)
    return lengths


def build_rows(
    input_ids: Tensor,
    attention_mask: Tensor,
    completion_mask: Tensor,
    prompt_lengths: list[int],
    pad_token_id: int,
    prompt_words: Tensor | None = None,
) -> PairRows:
    """Lay a TRL preference batch out as one row per pair (see the module's docstring).

    `prompt_words` (B, L) bool limits the prompt tokens that are scored.
    """
    device = input_ids.device
    half, width = input_ids.size(0) // 2, input_ids.size(1) - 1
    total = attention_mask.sum(1).tolist()
    ids = input_ids.cpu()
    rows: list[Tensor] = []
    chosen_lengths: list[int] = []
    for i, n in enumerate(prompt_lengths):
        chosen, rejected = ids[i, n : total[i]], ids[half + i, n : total[half + i]]
        chosen_lengths.append(len(chosen))
        rows.append(torch.cat([ids[i, :n], chosen, ids[i, n - 1 : n], rejected]))
    length = max(len(row) for row in rows)
    packed = torch.full((half, length), pad_token_id, dtype=torch.long)
    positions = torch.zeros((half, length), dtype=torch.long)
    mask = torch.zeros((half, 1, length, length), dtype=torch.bool)
    prompt_mask = torch.zeros((half, length), dtype=torch.bool)
    causal = torch.ones((length, length), dtype=torch.bool).tril()
    words = None if prompt_words is None else prompt_words.cpu()
    source, target, destination, p_source, p_target, p_row, last, last_chosen = ([] for _ in range(8))
    for i, (row, n, c) in enumerate(zip(rows, prompt_lengths, chosen_lengths, strict=True)):
        end, split = len(row), n + c  # row[split] is the repeated last prompt token
        packed[i, :end] = row
        positions[i, :split] = torch.arange(split)
        positions[i, split:end] = torch.arange(n - 1, n - 1 + end - split)
        mask[i, 0] = causal
        mask[i, 0, split:end, n - 1 : split] = False
        mask[i, 0, end:, :end] = False  # padding sees padding only, so that no softmax row is empty
        prompt_mask[i, :n] = True
        base = i * length
        source += [torch.arange(base + n - 1, base + split - 1), torch.arange(base + split, base + end - 1)]
        target += [row[n:split], row[split + 1 : end]]
        rejected_length = end - split - 1
        destination += [
            i * width + torch.arange(n - 1, n - 1 + c),
            (half + i) * width + torch.arange(n - 1, n - 1 + rejected_length),
        ]
        scored = torch.arange(1, n) if words is None else 1 + words[i, 1:n].nonzero()[:, 0]
        p_source.append(base + scored - 1)
        p_target.append(row[scored])
        p_row.append(torch.full((len(scored),), i))
        last.append(base + n - 1)
        last_chosen.append(base + split - 1)

    def cat(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts).long().to(device)

    return PairRows(
        input_ids=packed.to(device),
        position_ids=positions.to(device),
        attention_mask=mask.to(device),
        source=cat(source),
        target=cat(target),
        destination=cat(destination),
        prompt_source=cat(p_source),
        prompt_target=cat(p_target),
        prompt_row=cat(p_row),
        last_prompt=torch.tensor(last, device=device),
        last_chosen=torch.tensor(last_chosen, device=device),
        prompt_mask=prompt_mask.to(device),
        shape=(2 * half, width),
    )


@dataclass
class PairScores:
    """Per-token results in TRL's layout, zero where a position is not part of a completion.

    Attributes:
        log_probs, entropy, mean_logits: (2B, L-1); `is_top1` the same shape, bool. The names TRL reads.
        prompt_nll: (B,) mean over the prompt's tokens after the first, nats; 0 for one-token prompts.
        hidden: (B, H) aggregated last hidden states, or None.
        completion_hidden: (N, H) hidden states that predict the completion tokens, detached, or None.
    """

    log_probs: Tensor
    entropy: Tensor
    mean_logits: Tensor
    is_top1: Tensor
    prompt_nll: Tensor
    hidden: Tensor | None
    completion_hidden: Tensor | None = None
    aux_loss: None = None


def _block_scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> tuple[Tensor, ...]:
    """Log-prob of `target` (n,), and under no gradient entropy, mean logit and whether it is the argmax."""
    logits = F.linear(hidden, weight, bias).float()
    lse = torch.logsumexp(logits, dim=-1)
    picked = logits.gather(-1, target[:, None]).squeeze(-1)
    with torch.no_grad():
        probabilities = (logits - lse[:, None]).exp_()
        entropy = lse - probabilities.mul_(logits).sum(-1)
        mean_logits = logits.mean(-1)
        is_top1 = logits.argmax(-1) == target
    return picked - lse, entropy, mean_logits, is_top1


def _log_probs_only(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
    logits = F.linear(hidden, weight, bias).float()
    return logits.gather(-1, target[:, None]).squeeze(-1) - torch.logsumexp(logits, dim=-1)


def _score(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> tuple[Tensor, ...]:
    """`_block_scores` over blocks, recomputing logits in backward when there is more than one block."""
    parts = []
    single = len(target) <= _BLOCK
    for start in range(0, max(len(target), 1), _BLOCK):
        args = (hidden[start : start + _BLOCK], weight, bias, target[start : start + _BLOCK])
        if single or not torch.is_grad_enabled():
            parts.append(_block_scores(*args))
        else:
            parts.append(checkpoint(_block_scores, *args, use_reentrant=False))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def aggregate(hidden: Tensor, rows: PairRows, how: str) -> Tensor:
    """(B, H) hidden states of each pair: last_prompt_token, mean_prompt or last_completion_token (of the chosen)."""
    if how == "mean_prompt":
        weights = rows.prompt_mask.to(hidden.dtype)
        return torch.einsum("brh,br->bh", hidden, weights) / weights.sum(1, keepdim=True)
    flat = hidden.reshape(-1, hidden.size(-1))
    return flat[rows.last_prompt if how == "last_prompt_token" else rows.last_chosen]


def unsupported_reason(model: Any) -> str | None:
    """Why rows with a 4-D mask cannot be used with this model, or None if they can."""
    if type(model.get_output_embeddings()) is not torch.nn.Linear:
        return "the LM head is not a plain linear layer (an adapter sits on it)"
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention implementation {attention!r} takes no 4-D mask (sdpa and eager do)"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "sliding-window attention builds its own mask"
    if getattr(config, "layer_types", None) and any(kind != "full_attention" for kind in config.layer_types):
        return "not every layer is full attention"
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) not in (None, 1.0):
            return f"the model scales its logits ({name})"
    return None


def add_pair_scoring(model: Any) -> None:
    """Teach `model` (a causal LM, not its PEFT or DDP wrapper) the call `model(pair_rows=rows, aggregation=...)`.

    The call goes through the module's forward, so that wrappers (PEFT, DDP, FSDP) see it. Any other call is passed on.
    """
    original = model.forward

    @functools.wraps(original)
    def forward(
        self: Any,
        *args: Any,
        pair_rows: PairRows | None = None,
        aggregation: str | None = None,
        attach_ppl: bool = False,
        keep_hidden: bool = False,
        **kwargs: Any,
    ) -> Any:
        if pair_rows is None:
            return original(*args, **kwargs)
        rows = pair_rows
        # sdpa takes the boolean mask as it is; eager attention adds its mask to the scores
        mask = rows.attention_mask
        if self.config.get_text_config()._attn_implementation == "eager":
            mask = torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill(
                ~mask, torch.finfo(self.dtype).min
            )
        hidden = self.base_model(
            input_ids=rows.input_ids, attention_mask=mask, position_ids=rows.position_ids, use_cache=False
        ).last_hidden_state
        head = self.get_output_embeddings()
        flat = hidden.reshape(-1, hidden.size(-1))
        predicting = flat[rows.source]
        log_probs, entropy, mean_logits, is_top1 = _score(predicting, head.weight, head.bias, rows.target)
        with torch.set_grad_enabled(torch.is_grad_enabled() and attach_ppl):
            source = flat[rows.prompt_source]
            pieces = [
                _log_probs_only(source[i : i + _BLOCK], head.weight, head.bias, rows.prompt_target[i : i + _BLOCK])
                for i in range(0, len(source), _BLOCK)
            ]
            nll = -torch.cat(pieces) if pieces else flat.new_zeros(0)
            count = torch.bincount(rows.prompt_row, minlength=len(rows.input_ids)).clamp_min(1)
            zeros = torch.zeros(len(rows.input_ids), dtype=nll.dtype, device=nll.device)
            prompt_nll = zeros.index_add(0, rows.prompt_row, nll) / count

        def place(values: Tensor) -> Tensor:
            blank = values.new_zeros(rows.shape[0] * rows.shape[1])
            return blank.index_put((rows.destination,), values).view(rows.shape)

        return PairScores(
            log_probs=place(log_probs),
            entropy=place(entropy),
            mean_logits=place(mean_logits),
            is_top1=place(is_top1),
            prompt_nll=prompt_nll,
            hidden=aggregate(hidden, rows, aggregation) if aggregation else None,
            completion_hidden=predicting.detach() if keep_hidden else None,
        )

    model.forward = types.MethodType(forward, model)
