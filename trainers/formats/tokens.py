"""What a tokenizer and its chat template make of pairs: faults that texts do not show, found before anything is trained."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.common import Turns, cut_pair, message_ids, message_text
from trainers.formats.pairs import PreferencePair
from trainers.formats.scripts import MARKUP

#: Kinds of fault, and what is said of rows that have one.
KINDS = {
    "no_room": "whose prompts leave no room for an answer",
    "no_prompt": "whose answers leave no room for the prompt",
    "equal": "whose two answers are the same tokens",
    "cut": "whose two answers are the same tokens where they are cut",
    "no_tokens": "with an answer without tokens",
    "special": "with special tokens in their texts, where the chat template puts them too",
    "marked": "with chat markup in their texts, around which the chat template is put once more",
}
#: Pairs rendered and tokenised at a time, and the most tokens of an answer that may be the template's alone.
_BATCH, _SHORT = 512, 16


@dataclass(frozen=True)
class Cut:
    """How a run cuts sequences: `training.max_length` in tokens, None for no limit, and TRL's truncation_mode."""

    max_length: int | None
    mode: str = "keep_start"

    def apply(self, ids: list[int]) -> list[int]:
        """The tokens that are trained on."""
        if self.max_length is None:
            return ids
        return ids[-self.max_length :] if self.mode == "keep_end" else ids[: self.max_length]


@dataclass(frozen=True)
class TokenFaults:
    """Pairs by id with what is wrong with them. JSON types, so that they can be kept.

    Attributes:
        refused: pairs that the chat template refuses, with its reason.
        faults: pairs with a fault by kind (see `KINDS`), each with its figures; a pair has one kind.
        ahead: pairs whose templated answers do not begin with the generation prompt: what evaluation has there and what training
            has there.
    """

    refused: dict[str, str] = field(default_factory=dict)
    faults: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    ahead: dict[str, list[str]] = field(default_factory=dict)


def token_faults(tokenizer: Any, pairs: Sequence[PreferencePair], cuts: Sequence[Cut]) -> TokenFaults:
    """What is wrong with pairs under a tokenizer with a chat template, for every way they are cut."""
    found = TokenFaults()
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    special = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")
    for start in range(0, len(pairs), _BATCH):
        texts: list[str] = []
        rendered: list[PreferencePair] = []
        for pair in pairs[start : start + _BATCH]:
            try:
                texts += _texts(tokenizer, pair)
            except (
                Exception
            ) as error:  # templates raise what they like: TemplateError, or KeyError for what they do not know
                found.refused[pair.id] = f"{error}" or type(error).__name__
                continue
            rendered.append(pair)
        rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        for pair, head, chosen, rejected in zip(rendered, rows[::3], rows[1::3], rows[2::3], strict=True):
            prompt, *answers = cut_pair(head, chosen, rejected)
            if len(prompt) < len(head):
                other = chosen if chosen[: len(head)] != head else rejected
                found.ahead[pair.id] = [tokenizer.decode(ids[len(prompt) : len(head) + 4]) for ids in (head, other)]
            fault = _fault(tokenizer, pair, prompt, answers, cuts)
            fault = fault or _marked("special", special, pair) or _marked("marked", MARKUP, pair)
            if fault is not None:
                found.faults[fault[0]][pair.id] = fault[1]
    return found


def _texts(tokenizer: Any, pair: PreferencePair) -> list[str]:
    answered = [
        message_text(tokenizer, [*pair.prompt, *answer], answered=True) for answer in (pair.chosen, pair.rejected)
    ]
    return [message_text(tokenizer, pair.prompt), *answered]


def _fault(
    tokenizer: Any, pair: PreferencePair, prompt: list[int], answers: list[list[int]], cuts: Sequence[Cut]
) -> tuple[str, str] | None:
    """The kind of a pair's fault and its figures."""
    if answers[0] == answers[1]:
        return "equal", f"the two answers are the same {len(answers[0])} tokens under the chat template"
    for cut in cuts:
        limit, length = f"training.max_length is {cut.max_length}", cut.max_length
        if length is not None and len(prompt) >= length and cut.mode == "keep_start":
            return "no_room", f"the prompt has {len(prompt)} tokens and {limit}"
        if length is not None and cut.mode == "keep_end" and max(map(len, answers)) >= length:
            return "no_prompt", f"an answer has {max(map(len, answers))} tokens and {limit}"
        if cut.apply(prompt + answers[0]) == cut.apply(prompt + answers[1]):
            return "cut", f"the two answers are the same tokens where they are cut, as {limit}"
    for side, turns, ids in zip(("chosen", "rejected"), (pair.chosen, pair.rejected), answers, strict=True):
        if len(ids) <= _SHORT and _is_lost(tokenizer, pair.prompt, turns):
            return "no_tokens", f"the chat template leaves nothing of '{side}'"
    return None


def _is_lost(tokenizer: Any, prompt: Turns, answer: Turns) -> bool:
    """Whether an answer is the same tokens as one that says nothing."""
    silent = [{**turn, "content": ""} for turn in answer]
    try:
        return message_ids(tokenizer, [*prompt, *answer], answered=True) == message_ids(
            tokenizer, [*prompt, *silent], answered=True
        )
    except Exception:  # a template may refuse an empty turn: then the answer is not one
        return False


def _marked(kind: str, marks: re.Pattern[str], pair: PreferencePair) -> tuple[str, str] | None:
    """The first of these marks in a pair's texts."""
    for side in ("prompt", "chosen", "rejected"):
        for turn in getattr(pair, side):
            match = marks.search(turn["content"])
            if match is not None:
                return kind, f"'{side}' holds {match[0]!r}"
    return None
