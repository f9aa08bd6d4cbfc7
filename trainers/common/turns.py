"""Chat turns from the values of data sets: plain texts, message lists under various tags, histories, whole dialogues."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from trainers.common.errors import UserError

Message = dict[str, str]
Turns = list[Message]
#: Speakers under `role`, and what chat templates call them.
_ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool", "function", "ipython")}
_ROLES["model"] = "assistant"
#: Speakers under `from`, as ShareGPT writes them; a role that chat templates know is one too.
_SPEAKERS = {"human": "user", "gpt": "assistant", "observation": "tool", "function_call": "assistant", **_ROLES}
#: Parts of a message's content that are text, and keys of a message that a model says beside its content.
_TEXT_PARTS = ("text", "input_text", "output_text")
_SAID_BESIDE = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")


class DataError(UserError):
    """A preference file that cannot be used; the message names the file, the line and the fix."""


class NoPreferenceError(DataError):
    """A well-formed row without a preference; `kind` says why: identical, empty (or missing), tied or one_answer."""

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
        NoPreferenceError: names the missing ones; `hint` ends the message.
    """
    missing = [key for key in keys if row.get(key) is None]
    if missing:
        raise NoPreferenceError(f"{where}: missing {', '.join(missing)}; {hint}", "empty")


def is_messages(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value looks like chat messages: a non-empty list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def messages(
    value: Any,
    where: str,
    key: str,
    role_key: str = "",
    content_key: str = "",
    roles: Mapping[str, str] = {},
) -> Turns:
    """Messages as turns. `roles` translates the speakers' names; without it the messages have role and content, or from and
    value, and the speakers' usual names.

    Raises:
        DataError: not a list of messages, an unknown speaker, or something said that is no text.
    """
    if not is_messages(value):
        shape = f"{{{role_key or 'role'}, {content_key or 'content'}}}"
        raise DataError(f"{where}: '{key}' must be a text or a non-empty list of {shape} messages, not {_kind(value)}")
    turns: Turns = []
    for i, message in enumerate(value):
        sharegpt = "from" in message and "role" not in message
        usual = (_SPEAKERS, "from", "value") if sharegpt else (_ROLES, "role", "content")
        names, role_name, content_name = (roles, role_key, content_key) if roles else usual
        role, content, at = message.get(role_name), message.get(content_name), f"{key}[{i}]"
        beside = next((name for name in _SAID_BESIDE if message.get(name)), None)
        if beside is not None:
            raise DataError(
                f"{where}: '{at}' has {beside}, which is not shown to the model; write it into {content_name}, as the model's "
                "chat template would, or remove it"
            )
        if not isinstance(role, str) or not role or content is None:
            lacking = content_name if isinstance(role, str) and role else role_name
            raise DataError(f"{where}: '{at}' has no {lacking} (keys: {', '.join(message)}); add it")
        if role not in names:
            hint = f"; {role!r} is {_SPEAKERS[role]!r} here" if role in _SPEAKERS else ""
            raise DataError(f"{where}: '{at}' is by {role!r}; known: {', '.join(names)}{hint}")
        turns.append({"role": names[role], "content": _content(content, where, f"{at}.{content_name}")})
    return turns


def _content(value: Any, where: str, key: str) -> str:
    """A text, or a list of parts that are all text, joined as chat templates join them."""
    if not isinstance(value, list):
        return text_of(value, where, key)
    texts = []
    for i, part in enumerate(value):
        kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
        if kind not in _TEXT_PARTS:
            raise DataError(
                f"{where}: '{key}[{i}]' is of type {kind!r}; only text is trained here: remove it, or the row"
            )
        texts.append(text_of(part.get("text", part.get("value")), where, f"{key}[{i}]"))
    return "".join(texts)


def as_turns(value: Any, role: str, where: str, key: str) -> Turns:
    """A text as one turn of `role`, or messages, or a single message."""
    if isinstance(value, str):
        return [{"role": role, "content": text_of(value, where, key)}]
    return messages([value] if isinstance(value, dict) else value, where, key)


def after_history(
    row: Mapping[str, Any],
    where: str,
    prompt: Turns,
    system_key: str | None = "system",
    history_key: str | None = "history",
) -> Turns:
    """The prompt after its system text and its history of [question, answer] pairs or of messages.

    A conversation with a system text of its own keeps that one alone.
    """
    prompt = _history(row, where, history_key) + prompt
    system = row.get(system_key) if system_key else None
    if system is None or system == "" or any(turn["role"] == "system" for turn in prompt):
        return prompt
    return [{"role": "system", "content": text_of(system, where, str(system_key))}, *prompt]


def _history(row: Mapping[str, Any], where: str, history_key: str | None) -> Turns:
    turns: Turns = []
    history = row.get(history_key) if history_key else None
    if history in (None, "", [], "[]"):  # the last as CSV has it
        return turns
    if is_messages(history):
        return messages(history, where, str(history_key))
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
    if isinstance(value, list) and value:
        return "a list of other things (JSON by columns is read from files named .json)"
    return "an empty list" if value == [] else type(value).__name__


def plain(turns: Sequence[Mapping[str, str]]) -> str:
    """The text of turns, for counting and comparing."""
    return "\n".join(turn["content"] for turn in turns)
