"""One forward pass over a preference batch, in rows that share the prompt or in TRL's own two-row layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.loss.pair_rows import aggregate, build_rows, shared_prompt_lengths, token_log_probs


@dataclass
class ForwardPass:
    """What a pass over B pairs gives.

    Attributes:
        outputs: what TRL reads: log_probs (2B, L-1), zero outside completions, entropy, mean_logits, is_top1.
        prompt_nll: (B,) mean NLL of the prompt tokens that count, nats; prompt_tokens: (B,) how many they are.
        hidden: (B, H) aggregated last hidden states, or None.
        completion_hidden: (N, H) hidden states that predict the N completion tokens, detached, or None; `targets` (N,) are
            these tokens and `rows` (N,) their rows among the 2B.
    """

    outputs: Any
    prompt_nll: Tensor
    prompt_tokens: Tensor
    hidden: Tensor | None = None
    completion_hidden: Tensor | None = None
    targets: Tensor | None = None
    rows: Tensor | None = None


@dataclass(frozen=True)
class ForwardRequest:
    """What to run: TRL's keyword arguments for the model, and what to keep.

    `prompt_words` (B, L) bool limits the prompt's perplexity to these tokens.
    """

    kwargs: dict[str, Any]
    completion_mask: Tensor
    prompt_words: Tensor | None = None
    aggregation: str | None = None
    attach_ppl: bool = False
    keep_hidden: bool = False


def sequence_logps(log_probs: Tensor, completion_mask: Tensor, ld_alpha: float | None) -> Tensor:
    """(2B,) log-probs of the completions; with `ld_alpha` tokens beyond the shorter answer count that much (LD-DPO)."""
    if ld_alpha is None:
        return log_probs.sum(dim=1)
    mask = completion_mask[:, 1:]
    position = mask.cumsum(dim=1)
    shorter = torch.minimum(*mask.sum(dim=1).long().chunk(2)).repeat(2)[:, None]
    # two sums, as TRL has them, so that the last bit agrees
    shared = (log_probs * ((position > 0) & (position <= shorter))).sum(dim=1)
    return shared + ld_alpha * (log_probs * (position > shorter)).sum(dim=1)


def run_forward(model: Any, backbone: Any, request: ForwardRequest, pad_token_id: int | None) -> ForwardPass:
    """Run `model` once. With a `pad_token_id` rows share the prompt where every pair has one; with None never.

    Args:
        model: the policy or reference as called in training (wrapped or not). backbone: its transformer without the LM head,
            whose output is hooked where hidden states are needed in the two-row layout.
    """
    if pad_token_id is not None:
        ids, attention = request.kwargs["input_ids"], request.kwargs["attention_mask"]
        lengths = shared_prompt_lengths(ids, attention, request.completion_mask)
        if lengths is not None:
            return _pair_rows(model, request, lengths, pad_token_id)
    return _two_rows(model, backbone, request)


def _pair_rows(model: Any, request: ForwardRequest, lengths: list[int], pad_token_id: int) -> ForwardPass:
    ids, attention = request.kwargs["input_ids"], request.kwargs["attention_mask"]
    rows = build_rows(ids, attention, lengths, pad_token_id, request.prompt_words)
    scores = model(
        pair_rows=rows,
        aggregation=request.aggregation,
        attach_ppl=request.attach_ppl,
        keep_hidden=request.keep_hidden,
    )
    counts = torch.bincount(rows.prompt_row, minlength=len(lengths))
    return ForwardPass(
        scores,
        scores.prompt_nll,
        counts,
        scores.hidden,
        scores.completion_hidden,
        rows.target,
        rows.destination // rows.shape[1],
    )


def _two_rows(model: Any, backbone: Any, request: ForwardRequest) -> ForwardPass:
    """Stock layout: unmask the prompt's labels in the chosen half, read its NLL, mask its log-probs back to zero."""
    kwargs, completion = request.kwargs, request.completion_mask.bool()
    ids, attention = kwargs["input_ids"], kwargs["attention_mask"].bool()
    half = len(ids) // 2
    is_prompt = attention & ~completion
    labels = kwargs["labels"].clone()
    labels[:half] = torch.where(is_prompt[:half], ids[:half], labels[:half])
    wanted = request.aggregation is not None or request.keep_hidden
    with last_hidden_states(backbone) if wanted else contextlib.nullcontext([]) as captured:
        outputs = model(**{**kwargs, "labels": labels})
    counted = is_prompt[:half, 1:] & is_prompt[:half, :-1]
    if request.prompt_words is not None:
        counted = counted & request.prompt_words[:, 1:]
    source = outputs.log_probs[:half] if request.attach_ppl else outputs.log_probs[:half].detach()
    count = counted.sum(1)
    prompt_nll = -(source * counted).sum(1) / count.clamp_min(1)
    unmasked = is_prompt[:, 1:].clone()
    unmasked[half:] = False
    outputs.log_probs = outputs.log_probs.masked_fill(unmasked, 0)
    result = ForwardPass(outputs, prompt_nll, count)
    if request.aggregation is not None:
        result.hidden = aggregate(captured[0][:half], is_prompt[:half], attention[:half], request.aggregation)
    if request.keep_hidden:
        target_mask = completion[:, 1:]
        result.completion_hidden = captured[0][:, :-1][target_mask].detach()
        result.targets = ids[:, 1:][target_mask]
        result.rows = target_mask.nonzero()[:, 0]
    return result


@contextlib.contextmanager
def last_hidden_states(backbone: Any) -> Iterator[list[Tensor]]:
    """A list that gets the last hidden states (B, L, H) of every call of `backbone`, a transformer without its LM head."""
    captured: list[Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        captured.append(output.last_hidden_state)

    hook = backbone.register_forward_hook(keep)
    try:
        yield captured
    finally:
        hook.remove()


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
        for kind, logits in enumerate((z, (1 + epsilon) * z - epsilon * z_ref, (1 - epsilon) * z + epsilon * z_ref)):
            sums[kind].index_add_(0, policy.rows[part], token_log_probs(logits, policy.targets[part]))
    return sums[:, :pairs] - sums[:, pairs:]
