"""Dialogues of Anthropic's HH-RLHF (arXiv 2204.05862): two texts of "\\n\\nHuman: ...\\n\\nAssistant: ..." turns."""

import re
from typing import Any

from trainers.common.turns import DataError, Turns, after_history, optional, required, shared_start, text_of
from trainers.formats.registry import Comparison, Format, Values, rowwise

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_START = re.compile(r"\s*Human:")
_ROLE = {"Human": "user", "Assistant": "assistant"}


def _dialogue(value: Any, where: str, key: str) -> Turns:
    """The turns of a dialogue, without the white space around them.

    Raises:
        DataError: the text does not begin with a speaker.
    """
    parts = _SPEAKER.split(text_of(value, where, key))
    if len(parts) < 3 or parts[0]:
        raise DataError(f"{where}: '{key}' does not begin with 'Human:' or 'Assistant:'; found {str(value)[:30]!r}")
    return [{"role": _ROLE[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def _parse(row: Values, where: str) -> Comparison:
    required(row, where, ("chosen", "rejected"), "a dialogue row has chosen and rejected")
    chosen, rejected = (_dialogue(row[key], where, key) for key in ("chosen", "rejected"))
    prompt, chosen, rejected = shared_start(chosen, rejected, where)
    return Comparison(after_history(row, where, prompt), chosen, rejected, optional(row, "id"), optional(row, "group"))


def _matches(row: Values) -> bool:
    answers = [row.get(key) for key in ("chosen", "rejected")]
    return "prompt" not in row and all(isinstance(text, str) and _START.match(text) for text in answers)


HH_RLHF = Format(
    "hh-rlhf",
    "HH-RLHF dialogues",
    "chosen, rejected (Human: ... Assistant: ...)",
    _matches,
    rowwise(_parse),
    ("chosen", "rejected", "system", "history"),
)
