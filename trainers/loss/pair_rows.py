"""Scoring a pair in one row: prompt once, then both answers (prefix sharing, arXiv 2410.20305).

A row is [prompt, chosen, last prompt token again, rejected]. The repeated token keeps its position and sees the prompt
before it only, so the first rejected token is predicted exactly as in a row of its own. A boolean block mask keeps the two
answers apart and position ids restart. Only positions whose prediction is used go through the LM head.
"""

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainers.common.errors import first_fault

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
        prompt_mask, chosen_mask: (B, R) bool, the prompt, and the prompt with the chosen answer.
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
    prompt_mask: Tensor
    chosen_mask: Tensor
    shape: tuple[int, int]


def shared_prompt_lengths(input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> list[int] | None:
    """Prompt length of each pair, or None if some pair's two rows do not start with the same non-empty prompt.

    Args:
        input_ids, attention_mask, completion_mask: TRL's (2B, L) batch, B chosen rows then B rejected rows.
    """
    is_prompt = attention_mask.bool() & ~completion_mask.bool()
    lengths = is_prompt.sum(1, keepdim=True)
    first, second = input_ids.masked_fill(~is_prompt, -1).chunk(2)
    at_start = (is_prompt == (torch.arange(is_prompt.size(1), device=is_prompt.device) < lengths)).all()
    shared = bool(at_start) and torch.equal(first, second) and bool(lengths.all())
    return lengths[: len(first), 0].tolist() if shared else None


def build_rows(
    input_ids: Tensor,
    attention_mask: Tensor,
    prompt_lengths: list[int],
    pad_token_id: int,
    prompt_words: Tensor | None = None,
) -> PairRows:
    """Lay a TRL preference batch out as one row per pair (see the module's docstring).

    `prompt_words` (B, L) bool limits the prompt tokens that are scored.
    """
    device, half, width = input_ids.device, len(input_ids) // 2, input_ids.size(1) - 1
    prompt = torch.tensor(prompt_lengths, device=device)[:, None]
    # the repeated last prompt token stands at `split`, the end of a row is at `end`
    split, rejected_total = attention_mask.sum(1, keepdim=True).chunk(2)
    end = split + 1 + rejected_total - prompt
    length = int(end.max())
    place = torch.arange(length, device=device)
    real, second = place < end, place >= split
    position_ids = torch.where(second, place - split + prompt - 1, place).masked_fill(~real, 0)
    trl_row = torch.arange(half, device=device)[:, None] + half * second
    packed = input_ids[trl_row, position_ids].masked_fill(~real, pad_token_id)

    first_only = (place >= prompt - 1) & ~second  # what the rejected answer must not see
    alike = real[:, :, None] == real[:, None]  # padding sees padding only, so that no softmax row is empty
    mask = (place[:, None] >= place) & alike & ~(second[:, :, None] & first_only[:, None])

    predicts = (place >= prompt - 1) & (place != split - 1) & (place < end - 1)
    pair, at = predicts.nonzero(as_tuple=True)
    longest = max(prompt_lengths)
    scored = (place < prompt)[:, 1:longest]
    if prompt_words is not None:
        scored = scored & prompt_words[:, 1:longest]
    prompt_row, before = scored.nonzero(as_tuple=True)
    return PairRows(
        input_ids=packed,
        position_ids=position_ids,
        attention_mask=mask[:, None],
        source=pair * length + at,
        target=packed[pair, at + 1],
        destination=trl_row[pair, at] * width + position_ids[pair, at],
        prompt_source=prompt_row * length + before,
        prompt_target=packed[prompt_row, before + 1],
        prompt_row=prompt_row,
        prompt_mask=place < prompt,
        chosen_mask=place < split,
        shape=(2 * half, width),
    )


@dataclass
class PairScores:
    """Per-token results in TRL's layout (2B, L-1) and under the names TRL reads, zero where a position is not part of a
    completion; `is_top1` is bool."""

    log_probs: Tensor
    entropy: Tensor
    mean_logits: Tensor
    is_top1: Tensor
    aux_loss: None = None


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


def token_log_probs(logits: Tensor, target: Tensor) -> Tensor:
    """(N,) log-prob of each target (N,) under logits (N, V)."""
    return logits.gather(-1, target[:, None]).squeeze(-1) - torch.logsumexp(logits, dim=-1)


def _block_scores(hidden: Tensor, head: torch.nn.Linear, target: Tensor) -> tuple[Tensor, ...]:
    """Log-prob of `target` (n,), and under no gradient entropy, mean logit and whether it is the argmax."""
    logits = head(hidden).float()
    lse = torch.logsumexp(logits, dim=-1)
    picked = logits.gather(-1, target[:, None]).squeeze(-1)
    with torch.no_grad():
        probabilities = (logits - lse[:, None]).exp_()
        entropy = lse - probabilities.mul_(logits).sum(-1)
        mean_logits = logits.mean(-1)
        is_top1 = logits.argmax(-1) == target
    return picked - lse, entropy, mean_logits, is_top1


def _score(hidden: Tensor, head: torch.nn.Linear, target: Tensor) -> tuple[Tensor, ...]:
    """`_block_scores` over blocks, recomputing logits in backward when there is more than one block."""
    recompute = len(target) > _BLOCK and torch.is_grad_enabled()
    scores = functools.partial(checkpoint, _block_scores, use_reentrant=False) if recompute else _block_scores
    blocks = zip(hidden.split(_BLOCK), target.split(_BLOCK), strict=True)
    parts = [scores(states, head, tokens) for states, tokens in blocks]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _negative_log_likelihood(hidden: Tensor, head: torch.nn.Linear, target: Tensor) -> Tensor:
    """(N,) in nats; logits are made block by block."""
    blocks = zip(hidden.split(_BLOCK), target.split(_BLOCK), strict=True)
    return -torch.cat([token_log_probs(head(states).float(), tokens) for states, tokens in blocks])


def aggregate(hidden: Tensor, is_prompt: Tensor, attended: Tensor, how: str) -> Tensor:
    """(B, H) from hidden states (B, L, H), padded on either side; `how` is an aggregation of `BetaRule`.

    Args:
        is_prompt, attended: (B, L) bool, the prompt, and the prompt with the answer that `last_completion_token` ends.
    """
    is_prompt, attended = is_prompt.to(hidden.device), attended.to(hidden.device)
    if how == "mean_prompt":
        weights = is_prompt.to(hidden.dtype)
        return torch.einsum("blh,bl->bh", hidden, weights) / weights.sum(1, keepdim=True)
    chosen = is_prompt if how == "last_prompt_token" else attended
    last = chosen.size(1) - 1 - chosen.flip(1).int().argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def unsupported_reason(model: Any) -> str | None:
    """Why rows with a 4-D mask cannot be used with this model, or None if they can."""
    config = model.config.get_text_config()
    attention, layers = config._attn_implementation, getattr(config, "layer_types", None) or ()
    scalers = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
    scaled = [name for name in scalers if getattr(config, name, None) not in (None, 1.0)]
    return first_fault(
        (
            type(model.get_output_embeddings()) is not torch.nn.Linear,
            "the LM head is not a plain linear layer (an adapter sits on it)",
        ),
        (
            attention not in ("sdpa", "eager"),
            f"attention implementation {attention!r} takes no 4-D mask (sdpa and eager do)",
        ),
        (
            getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True),
            "sliding-window attention builds its own mask",
        ),
        (any(kind != "full_attention" for kind in layers), "not every layer is full attention"),
        (scaled, f"the model scales its logits ({', '.join(scaled)})"),
    )


def add_pair_scoring(model: Any) -> None:
    """Teach `model` (a causal LM, not its PEFT or DDP wrapper) the call `model(pair_rows=rows, aggregation=...)`.

    It gives a `ForwardPass`.

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
        if (rows := pair_rows) is None:
            return original(*args, **kwargs)
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
        log_probs, entropy, mean_logits, is_top1 = _score(predicting, head, rows.target)
        with torch.set_grad_enabled(torch.is_grad_enabled() and attach_ppl):
            nll = _negative_log_likelihood(flat[rows.prompt_source], head, rows.prompt_target)
            count = torch.bincount(rows.prompt_row, minlength=len(rows.input_ids))
            prompt_nll = nll.new_zeros(len(count)).index_add(0, rows.prompt_row, nll) / count.clamp_min(1)

        def place(values: Tensor) -> Tensor:
            blank = values.new_zeros(rows.shape[0] * rows.shape[1])
            return blank.index_put((rows.destination,), values).view(rows.shape)

        return ForwardPass(
            PairScores(place(log_probs), place(entropy), place(mean_logits), place(is_top1)),
            prompt_nll,
            count,
            hidden=aggregate(hidden, rows.prompt_mask, rows.chosen_mask, aggregation) if aggregation else None,
            completion_hidden=predicting.detach() if keep_hidden else None,
            targets=rows.target,
            rows=rows.destination // rows.shape[1],
        )

    model.forward = types.MethodType(forward, model)
