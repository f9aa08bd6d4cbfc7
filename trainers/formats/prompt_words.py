"""Which tokens of a prompt are the user's own words, without the chat template around them."""

from typing import Any

from trainers.formats.pairs import PreferencePair


class PromptWordsError(ValueError):
    """The user's words cannot be told from the template; the message says why and what to set."""


def user_words(tokenizer: Any, pair: PreferencePair) -> list[bool]:
    """One flag per token of the templated prompt, True for tokens that overlap the content of a user's turn.

    Raises:
        PromptWordsError: a tokenizer without offsets, or a template that rewrites what the user said.
    """
    if not tokenizer.is_fast:
        raise PromptWordsError("ppl_tokens: user needs a fast tokenizer (with offsets); set ppl_tokens: all")
    text = tokenizer.apply_chat_template(pair.prompt, add_generation_prompt=True, tokenize=False)
    spans, cursor = [], 0
    for turn in pair.prompt:
        content = turn["content"].strip()
        start = text.find(content, cursor)
        if start < 0:
            raise PromptWordsError(
                f"example {pair.id!r}: the chat template changes the text of a turn, so the user's words cannot be found; "
                "set ppl_tokens: all"
            )
        cursor = start + len(content)
        if turn["role"] == "user":
            spans.append((start, cursor))
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [any(start < stop and end > begin for begin, stop in spans) for start, end in offsets]
