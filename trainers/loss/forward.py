"""One forward pass over a preference batch, in rows that share the prompt or in TRL's own two-row layout."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainers.loss.pair_rows import ForwardPass, aggregate, build_rows, shared_prompt_lengths, token_log_probs


def sequence_logps(log_probs: Tensor, completion_mask: Tensor, ld_alpha: float | None) -> Tensor:
    """(2B,) log-probs of the completions; with `ld_alpha` tokens beyond the shorter answer count that much (LD-DPO).

    Policy and reference alike, as in TRL.
    """
    if ld_alpha is None:
        return log_probs.sum(dim=1)
    mask = completion_mask[:, 1:]
    position = mask.cumsum(dim=1)
    shorter = torch.minimum(*mask.sum(dim=1).long().chunk(2)).repeat(2)[:, None]
    # two sums, as TRL has them, so that the last bit agrees
    shared = (log_probs * ((position > 0) & (position <= shorter))).sum(dim=1)
    return shared + ld_alpha * (log_probs * (position > shorter)).sum(dim=1)


def run_forward(
    model: Any,
    backbone: Any,
    kwargs: Mapping[str, Any],
    completion_mask: Tensor,
    pad_token_id: int | None,
    prompt_words: Tensor | None = None,
    aggregation: str | None = None,
    attach_ppl: bool = False,
    keep_hidden: bool = False,
) -> ForwardPass:
    """Run `model` once. With a `pad_token_id` rows share the prompt where every pair has one; with None never.

    Args:
        model: the policy or reference as called in training (wrapped or not). backbone: its transformer without the LM head,
            whose output is hooked where hidden states are needed in the two-row layout.
        kwargs: TRL's arguments for the model, among them input_ids, attention_mask and labels (2B, L).
        completion_mask: (2B, L). prompt_words: (B, L) bool, limits the prompt's perplexity to these tokens.
        aggregation, attach_ppl: of the rule (see `BetaRule`). keep_hidden: keep the states that predict completion tokens.
    """
    ids, attention, completion = kwargs["input_ids"], kwargs["attention_mask"], completion_mask.bool()
    lengths = None if pad_token_id is None else shared_prompt_lengths(ids, attention, completion)
    if lengths is not None and pad_token_id is not None:
        rows = build_rows(ids, attention, lengths, pad_token_id, prompt_words)
        return model(pair_rows=rows, aggregation=aggregation, attach_ppl=attach_ppl, keep_hidden=keep_hidden)
    # stock layout: unmask the prompt's labels in the chosen half, read its NLL, mask its log-probs back to zero
    half = len(ids) // 2
    prompt = attention.bool() & ~completion
    prompt[half:] = False
    labels = torch.where(prompt, ids, kwargs["labels"])
    wanted = aggregation is not None or keep_hidden
    with last_hidden_states(backbone if wanted else None) as captured:
        outputs = model(**{**kwargs, "labels": labels})
    counted = prompt[:half, 1:] & prompt[:half, :-1]
    if prompt_words is not None:
        counted = counted & prompt_words[:, 1:]
    source = outputs.log_probs[:half] if attach_ppl else outputs.log_probs[:half].detach()
    count = counted.sum(1)
    prompt_nll = -(source * counted).sum(1) / count.clamp_min(1)
    outputs.log_probs = outputs.log_probs.masked_fill(prompt[:, 1:], 0)
    result = ForwardPass(outputs, prompt_nll, count)
    if aggregation is not None:
        result.hidden = aggregate(captured[0][:half], prompt[:half], attention[:half].bool(), aggregation)
    if keep_hidden:
        target_mask = completion[:, 1:]
        result.completion_hidden = captured[0][:, :-1][target_mask].detach()
        result.targets = ids[:, 1:][target_mask]
        result.rows = target_mask.nonzero()[:, 0]
    return result


@contextlib.contextmanager
def last_hidden_states(backbone: Any) -> Iterator[list[Tensor]]:
    """A list that gets the last hidden states (B, L, H) of every call of `backbone`, a transformer without its LM head; with
    None it stays empty."""
    captured: list[Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        captured.append(output.last_hidden_state)

    with contextlib.ExitStack() as stack:
        if backbone is not None:
            stack.callback(backbone.register_forward_hook(keep).remove)
        yield captured


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
        # written so that the three are the same number where the policy is the reference: rounding must make no step
        away = epsilon * (z - z_ref)
        for kind, logits in enumerate((z, z + away, z - away)):
            sums[kind].index_add_(0, policy.rows[part], token_log_probs(logits, policy.targets[part]))
    return sums[:, :pairs] - sums[:, pairs:]
