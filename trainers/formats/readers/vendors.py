"""Preference rows of OpenAI's fine-tuning (and Azure's, Together's), of ms-swift, and of LLaMA-Factory's version 1."""

from trainers.common.turns import DataError, after_history, as_turns, messages, optional, required, shared_start
from trainers.formats.registry import Comparison, Format, Values, rowwise

_OPENAI = ("input", "preferred_output", "non_preferred_output")
_V1 = ("chosen_messages", "rejected_messages")


def _openai(row: Values, where: str) -> Comparison:
    required(row, where, _OPENAI, f"a row has {', '.join(_OPENAI)}")
    asked = row["input"] if isinstance(row["input"], dict) else {"messages": row["input"]}
    if asked.get("tools"):
        raise DataError(
            f"{where}: 'input.tools' would not be shown to the model; write them into a system text, or remove them"
        )
    prompt = as_turns(asked.get("messages"), "user", where, "input.messages")
    chosen, rejected = (as_turns(row[key], "assistant", where, key) for key in _OPENAI[1:])
    return Comparison(prompt, chosen, rejected, optional(row, "id"), optional(row, "group"))


def _swift(row: Values, where: str) -> Comparison:
    """`messages` end with the good answer; the bad one is a text, or a conversation of its own."""
    key = next((key for key in ("messages", "conversations") if key in row), None)
    if key is not None:
        whole = messages(row[key], where, key)
    else:
        required(row, where, ("query", "response"), "a row of ms-swift has messages, or query and response")
        whole = [
            *as_turns(row["query"], "user", where, "query"),
            *as_turns(row["response"], "assistant", where, "response"),
        ]
    whole = after_history(row, where, whole)
    if "rejected_messages" in row:
        other = after_history(row, where, messages(row["rejected_messages"], where, "rejected_messages"))
        return Comparison(*shared_start(whole, other, where), optional(row, "id"), optional(row, "group"))
    required(row, where, ["rejected_response"], "a row of ms-swift has messages and rejected_response")
    rejected = as_turns(row["rejected_response"], "assistant", where, "rejected_response")
    return Comparison(whole[:-1], whole[-1:], rejected, optional(row, "id"), optional(row, "group"))


def _v1(row: Values, where: str) -> Comparison:
    required(row, where, _V1, f"a row has {' and '.join(_V1)}")
    chosen, rejected = (messages(row[key], where, key) for key in _V1)
    prompt, chosen, rejected = shared_start(chosen, rejected, where)
    return Comparison(after_history(row, where, prompt), chosen, rejected, optional(row, "id"), optional(row, "group"))


VENDORS = (
    Format(
        "openai-preference",
        "OpenAI preference fine-tuning",
        "input {messages}, preferred_output, non_preferred_output",
        lambda row: "preferred_output" in row or "non_preferred_output" in row,
        rowwise(_openai),
        _OPENAI,
    ),
    Format(
        "ms-swift",
        "ms-swift",
        "messages (or query, response), rejected_response (or rejected_messages)",
        lambda row: (
            not {"rejected_response", "rejected_messages"}.isdisjoint(row)
            and not {"messages", "conversations", "query"}.isdisjoint(row)
        ),
        rowwise(_swift),
        (
            "messages",
            "conversations",
            "query",
            "response",
            "rejected_response",
            "rejected_messages",
            "system",
            "history",
        ),
    ),
    Format(
        "llamafactory-v1",
        "LLaMA-Factory, version 1",
        ", ".join(_V1),
        lambda row: "chosen_messages" in row and "rejected_messages" in row,
        rowwise(_v1),
        (*_V1, "system", "history"),
    ),
)
