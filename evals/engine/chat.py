"""Conversations and preference pairs as token ids, cut as TRL's DPOTrainer cuts them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

Messages = Sequence[dict[str, str]]


def message_ids(tokenizer: Any, messages: Messages, *, answered: bool = False) -> list[int]:
    """Token ids of a conversation under the chat template, ready for the answer; bare text without a template.

    Args:
        answered: the last message is the answer, so nothing is to follow.
    """
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=not answered, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer("".join(message["content"] for message in messages))["input_ids"])


def pair_ids(
    tokenizer: Any, prompt: Messages, chosen: Messages, rejected: Messages
) -> tuple[list[int], list[int], list[int]]:
    """Ids of prompt, chosen and rejected; an answer begins where its conversation leaves the prompt's tokens."""
    head = message_ids(tokenizer, prompt)
    full = [message_ids(tokenizer, [*prompt, *answer], answered=True) for answer in (chosen, rejected)]
    cut = min(_common(head, ids) for ids in full)
    return head[:cut], full[0][cut:], full[1][cut:]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    n = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        n += 1
    return n


def chat_ids(tokenizer: Any, user: str) -> list[int]:
    """Token ids of one user message under the chat template, ready for the answer; the bare text without a template."""
    return message_ids(tokenizer, [{"role": "user", "content": user}])


def hashed_seed(text: str) -> int:
    """A seed of 31 bits from a text, so that neither order nor batch matters."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def sample_seed(seed: int, prompt: str, sample: int) -> int:
    """Seed of one sample, from the run's seed, the sample's number and the prompt."""
    return hashed_seed(f"{seed}:{sample}:{prompt}")
