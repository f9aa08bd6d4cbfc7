"""Conversations and pairs as token ids, cut as TRL's DPOTrainer cuts them: one way for checks of the data and for evaluation."""

from collections.abc import Sequence
from typing import Any

from trainers.common.turns import common_start

Messages = Sequence[dict[str, str]]
Ids = list[int]


def message_text(tokenizer: Any, messages: Messages, *, answered: bool = False) -> str:
    """A conversation under the chat template, ready for the answer.

    Args:
        answered: the last message is the answer, so nothing is to follow.
    """
    return str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=not answered, tokenize=False))


def message_ids(tokenizer: Any, messages: Messages, *, answered: bool = False) -> Ids:
    """Token ids of `message_text`; of the bare text without a template."""
    if tokenizer.chat_template:
        text = message_text(tokenizer, messages, answered=answered)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer("".join(message["content"] for message in messages))["input_ids"])


def pair_ids(tokenizer: Any, prompt: Messages, chosen: Messages, rejected: Messages) -> tuple[Ids, Ids, Ids]:
    """Ids of prompt, chosen and rejected; see `cut_pair`."""
    head = message_ids(tokenizer, prompt)
    return cut_pair(head, *(message_ids(tokenizer, [*prompt, *answer], answered=True) for answer in (chosen, rejected)))


def cut_pair(head: Ids, chosen: Ids, rejected: Ids) -> tuple[Ids, Ids, Ids]:
    """Prompt and answers of a prompt and two whole conversations: an answer begins where its conversation leaves the prompt."""
    cut = min(common_start(head, chosen), common_start(head, rejected))
    return head[:cut], chosen[cut:], rejected[cut:]
