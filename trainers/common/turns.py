"""Chat turns from the values of data sets: plain texts, message lists under various tags, histories, whole dialogues."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from trainers.common.errors import UserError

Message = dict[str, str]
Turns = list[Message]


class DataError(UserError):
    """A preference file that cannot be used; the message names the file, the line and the fix."""


class NoPreferenceError(DataError):
    """A well-formed row without a preference; `kind` says why: identical, empty, tied or one_answer."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(f"{message}, or set without_preference: drop")
        self.kind = kind


def text_of(value: Any, where: str, key: str) -> str:
    """A text that can be written as UTF-8.

    Raises:
        DataError: another type, or half of a surrogate pair (an emoji cut in two).
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: '{key}' must be a text, not {_kind(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: '{key}' has half of a surrogate pair (\\u{ord(value[error.start]):04x}) at character "
            f"{error.start + 1}; an emoji was cut in two: repair or remove it"
        ) from None
    return value


def required(row: Mapping[str, Any], where: str, keys: Sequence[str], hint: str) -> None:
    """Check that a row has these keys.

    Raises:
        DataError: names the missing ones; `hint` ends the message.
    """
    missing = [key for key in keys if row.get(key) is None]
    if missing:
        raise DataError(f"{where}: missing {', '.join(missing)}; {hint}")


def is_messages(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value looks like chat messages: a non-empty list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def messages(
    value: Any,
    where: str,
    key: str,
    role_key: str = "role",
    content_key: str = "content",
    roles: Mapping[str, str] = {},
) -> Turns:
    """Messages as turns; `roles` translates the speakers' names, and where it is empty any role is taken as it is.

    Raises:
        DataError: not a list of messages, or an unknown speaker.
    """
    if not is_messages(value):
        raise DataError(
            f"{where}: '{key}' must be a text or a non-empty list of {{{role_key}, {content_key}}} messages, not {_kind(value)}"
        )
    turns: Turns = []
    for i, message in enumerate(value):
        role, content = message.get(role_key), message.get(content_key)
        if not isinstance(role, str) or not role:
            raise DataError(f"{where}: '{key}[{i}]' has no {role_key} (keys: {', '.join(message)}); add it")
        if content is None:
            raise DataError(f"{where}: '{key}[{i}]' has no {content_key} (keys: {', '.join(message)}); add it")
        if roles and role not in roles:
            raise DataError(f"{where}: '{key}[{i}]' is by {role!r}; known: {', '.join(roles)}")
        turns.append({"role": roles.get(role, role), "content": text_of(content, where, f"{key}[{i}].{content_key}")})
    return turns


def as_turns(value: Any, role: str, where: str, key: str) -> Turns:
    """A text as one turn of `role`, or messages."""
    if isinstance(value, str):
        return [{"role": role, "content": text_of(value, where, key)}]
    return messages(value, where, key)


def before(row: Mapping[str, Any], where: str, system_key: str | None, history_key: str | None) -> Turns:
    """The turns before the prompt: a system text and a history of [question, answer] pairs or of messages."""
    turns: Turns = []
    system = row.get(system_key) if system_key else None
    if system is not None and system != "":
        turns.append({"role": "system", "content": text_of(system, where, str(system_key))})
    history = row.get(history_key) if history_key else None
    if history in (None, "", [], "[]"):  # the last as CSV has it
        return turns
    if is_messages(history):
        return turns + messages(history, where, str(history_key))
    if not isinstance(history, list) or not all(isinstance(part, list | tuple) and len(part) == 2 for part in history):
        raise DataError(f"{where}: '{history_key}' must be a list of [question, answer] pairs; each has two texts")
    for i, (question, answer) in enumerate(history):
        turns.append({"role": "user", "content": text_of(question, where, f"{history_key}[{i}][0]")})
        turns.append({"role": "assistant", "content": text_of(answer, where, f"{history_key}[{i}][1]")})
    return turns


def common_start(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many items two sequences begin with alike."""
    return next((i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def shared_start(chosen: Turns, rejected: Turns, where: str) -> tuple[Turns, Turns, Turns]:
    """(prompt, chosen, rejected) of two whole conversations: the prompt is what they share before an assistant's turn.

    Raises:
        NoPreferenceError: the conversations are the same.
        DataError: they share no turn, or an answer does not come from the assistant.
    """
    if chosen == rejected:
        raise identical(where)
    n = common_start(chosen, rejected)
    # If one conversation is longer, or they differ from a question on, both answers begin at the last common answer.
    while n and not (_answers(chosen, n) and _answers(rejected, n)):
        n -= 1
    if n == 0:
        raise DataError(
            f"{where}: 'chosen' and 'rejected' share no prompt before an assistant's answer; they must begin with the same "
            "turns, or the row needs a 'prompt'"
        )
    return chosen[:n], chosen[n:], rejected[n:]


def _answers(turns: Turns, n: int) -> bool:
    return n < len(turns) and turns[n]["role"] == "assistant"


def identical(where: str) -> NoPreferenceError:
    """The error of a row with two equal answers."""
    return NoPreferenceError(
        f"{where}: chosen and rejected are identical; remove the row (it carries no preference)", "identical"
    )


def optional(row: Mapping[str, Any], key: str) -> str | None:
    """An id or group as text; None where absent or empty (as in CSV)."""
    value = row.get(key)
    return None if value is None or value == "" else str(value)


def number(row: Mapping[str, Any], key: str, where: str) -> float | None:
    """A number, also where CSV has it as text; None where absent or empty. Its range is checked with the pair."""
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"{where}: '{key}' is {value!r}; it must be a number")
    return found if isinstance(value, str) else value


def _kind(value: Any) -> str:
    return "an empty list" if value == [] else type(value).__name__


def plain(turns: Sequence[Mapping[str, str]]) -> str:
    """The text of turns, for counting and comparing."""
    return "\n".join(turn["content"] for turn in turns)
