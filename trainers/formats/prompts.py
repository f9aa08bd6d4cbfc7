"""Prompts alone, from every source that preference data may come from.

Read are `prompt` (a text or messages), LLaMA-Factory's and Alpaca's `instruction` and `input`, MT-Bench's `turns`, and whole
conversations under `messages` or `conversations`, whose last answer is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainers.common.files import Json
from trainers.common.turns import DataError, Turns, before, plain, text_of
from trainers.formats.load import content_id
from trainers.formats.readers.single import conversation, question
from trainers.formats.registry import Values
from trainers.formats.rows import Row, not_an_object
from trainers.formats.source import open_stream

_SHAPES = "prompt; instruction and input; turns; messages or conversations"
_ID_KEYS = ("id", "question_id", "prompt_id", "key")
#: Keys that the prompt is from, and what a row of pairs or answers holds beside it.
_USED = ("prompt", "instruction", "input", "turns", "messages", "conversations", "system", "history")
_ANSWERS = ("chosen", "rejected", "completion", "output", "label", "score_chosen", "score_rejected", "group")


@dataclass(frozen=True)
class Prompts:
    """Rows with `id`, `prompt` (one question as text) and the other keys of the source; how many repeated ones were left out."""

    rows: list[Json]
    repeated: int


def read_prompts(source: str, base: Path = Path()) -> Prompts:
    """The prompts of a source, each once; see `trainers.formats.source.open_source` for how sources are written.

    Raises:
        DataError: no such source, no prompts, a row without a prompt, a conversation of several turns, or an id of two prompts.
    """
    rows: dict[str, Json] = {}
    prompts: set[str] = set()
    repeated = 0
    stream = open_stream(source, base, prompts=True)
    for row in stream.rows:
        found = _prompt(row, stream.asked or _asked)
        if found["prompt"] in prompts:
            repeated += 1
            continue
        if found["id"] in rows:
            raise DataError(f"{row.where}: id {found['id']!r} is also that of another prompt; ids must be unique")
        prompts.add(found["prompt"])
        rows[found["id"]] = found
        if stream.limit is not None and len(rows) == stream.limit:
            break
    if not rows:
        raise DataError(f"{stream.shown}: no prompts; a row has {_SHAPES}")
    return Prompts(list(rows.values()), repeated)


def _prompt(row: Row, read: Callable[[Values, str], Turns]) -> Json:
    value, where = row.value, row.where
    if not isinstance(value, dict):
        raise not_an_object(row, _SHAPES)
    turns = read(value, where)
    turns = turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns
    if len(turns) != 1 or turns[0]["role"] != "user":
        roles = ", ".join(turn["role"] for turn in turns)
        raise DataError(
            f"{where}: a prompt must be one question of the user, and this one has the turns {roles or 'none'}"
        )
    text = plain(turns)
    if not text.strip():
        raise DataError(f"{where}: the prompt is empty; remove the row, or fill it")
    name = next((str(value[key]) for key in _ID_KEYS if value.get(key) not in (None, "")), content_id(turns))
    rest = {key: part for key, part in value.items() if key not in ("id", *_USED, *_ANSWERS) and part is not None}
    return {"id": name, "prompt": text, **rest}


def _asked(row: Values, where: str) -> Turns:
    found = question(row, where)
    if found is not None:
        return found
    if isinstance(row.get("turns"), list):
        first = before(row, where, "system", "history")
        return first + [{"role": "user", "content": text_of(part, where, "turns")} for part in row["turns"]]
    key, turns = conversation(row, where, "history")
    if key is not None:
        return turns
    keys = ", ".join(map(str, row)) or "none"
    raise DataError(f"{where}: no prompt (keys: {keys}); a row has {_SHAPES}")
