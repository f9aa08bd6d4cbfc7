"""TRL's preference formats: standard (texts) and conversational (messages), each with an explicit or implicit prompt.

Beside TRL's keys a row may have `id`, `group`, `beta` and `flipped`, and before its prompt a `system` text and a `history` of
[question, answer] pairs. Texts become one chat turn: everything here is trained through the chat template.
"""

import re

from trainers.common.turns import (
    DataError,
    after_history,
    as_turns,
    common_start,
    identical,
    is_messages,
    messages,
    number,
    optional,
    required,
    shared_start,
    text_of,
)
from trainers.formats.registry import Comparison, Format, Values, rowwise, unread

_KEYS = ("prompt", "chosen", "rejected")
_USED = (*_KEYS, "system", "history", "beta")
#: Columns of text that say where a row is from, and are no prompt.
_METADATA = re.compile(
    r"(?:.*_)?(?:id|ids|hash|source|dataset|split|category|language|lang|model|license|url|date|label|type)"
)
_NEEDED = (
    "a preference row has prompt, chosen and rejected; python -m harness build-preferences --chosen-only FILE "
    "--strategy corrupted makes rejected answers"
)


def _own(row: Values, where: str) -> dict[str, object]:
    flipped = {"true": True, "false": False}.get(str(row.get("flipped")).lower())
    names = {"id": optional(row, "id"), "group": optional(row, "group")}
    return {**names, "beta": number(row, "beta", where), "flipped": flipped}


def _explicit(row: Values, where: str) -> Comparison:
    required(row, where, _KEYS, _NEEDED)
    prompt = after_history(row, where, as_turns(row["prompt"], "user", where, "prompt"))
    chosen = as_turns(row["chosen"], "assistant", where, "chosen")
    rejected = as_turns(row["rejected"], "assistant", where, "rejected")
    n = len(prompt)
    if chosen[:n] == prompt and rejected[:n] == prompt:
        prompt, chosen, rejected = shared_start(chosen, rejected, where)
    return Comparison(prompt, chosen, rejected, **_own(row, where))  # type: ignore[arg-type]


def _implicit(row: Values, where: str) -> Comparison:
    required(row, where, ("chosen", "rejected"), "a row without a prompt has chosen and rejected, both with it")
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _implicit_texts(row, where)
    prompt, *answers = shared_start(messages(chosen, where, "chosen"), messages(rejected, where, "rejected"), where)
    return Comparison(after_history(row, where, prompt), *answers, **_own(row, where))  # type: ignore[arg-type]


def _implicit_texts(row: Values, where: str) -> Comparison:
    """The prompt is the longest common beginning of the two texts, as trl.extract_prompt cuts it."""
    chosen, rejected = text_of(row["chosen"], where, "chosen"), text_of(row["rejected"], where, "rejected")
    if chosen == rejected:
        raise identical(where)
    others = [key for key in unread(row, _USED) if not _METADATA.fullmatch(key)]
    if others:
        raise DataError(
            f"{where}: there is no prompt, and {', '.join(others)} would not be read: rename the column of the prompt to prompt, "
            "or say which it is in a dataset_info.json, and leave out what the model is not to see"
        )
    n = common_start(chosen, rejected)
    if n and chosen[n - 1] == " ":
        n -= 1
    if not chosen[:n].strip():
        raise DataError(
            f"{where}: 'chosen' and 'rejected' have no common prefix, so no prompt can be extracted; add a 'prompt'"
        )
    return Comparison(
        after_history(row, where, [{"role": "user", "content": chosen[:n]}]),
        [{"role": "assistant", "content": chosen[n:]}],
        [{"role": "assistant", "content": rejected[n:]}],
        **_own(row, where),  # type: ignore[arg-type]
    )


def _has_messages(row: Values) -> bool:
    return any(is_messages(row.get(key)) or isinstance(row.get(key), dict) for key in _KEYS)


def _is_explicit(row: Values) -> bool:
    return "prompt" in row and ("chosen" in row or "rejected" in row)


def _is_implicit(row: Values) -> bool:
    return "prompt" not in row and "chosen" in row and "rejected" in row


TRL = [
    Format(
        "trl-conversational",
        "TRL, conversational",
        "prompt, chosen, rejected (messages)",
        lambda row: _is_explicit(row) and _has_messages(row),
        rowwise(_explicit),
        _USED,
    ),
    Format(
        "trl-standard",
        "TRL, standard",
        "prompt, chosen, rejected (texts)",
        lambda row: _is_explicit(row) or ("prompt" in row and len(row) == 1),
        rowwise(_explicit),
        _USED,
    ),
    Format(
        "trl-conversational-implicit",
        "TRL, conversational, implicit prompt",
        "chosen, rejected (messages that begin alike)",
        lambda row: _is_implicit(row) and _has_messages(row),
        rowwise(_implicit),
        _USED,
    ),
    Format(
        "trl-standard-implicit",
        "TRL, standard, implicit prompt",
        "chosen, rejected (texts that begin alike)",
        _is_implicit,
        rowwise(_implicit),
        _USED,
    ),
]
