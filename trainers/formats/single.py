"""Rows with one good answer, for which rejected ones are to be generated, and prompts alone.

Answers: a prompt with `chosen` or `completion` (answers that a `label` column calls undesirable are skipped), LLaMA-Factory's and
Alpaca's `instruction`, `input` and `output`, and whole conversations under `messages` or `conversations`, whose last turn is
the answer. Prompts: the same without the answer, and MT-Bench's `turns`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainers.common import (
    DataError,
    Json,
    Row,
    Turns,
    after_history,
    as_turns,
    messages,
    not_an_object,
    optional,
    plain,
    read_rows,
    refuse,
    text_of,
)
from trainers.formats.load import content_id
from trainers.formats.readers.kto import label_of
from trainers.formats.registry import Values
from trainers.formats.source import open_stream

_ANSWER_SHAPES = "prompt and chosen (or completion); instruction, input and output; messages or conversations"


@dataclass(frozen=True)
class Answers:
    """One row for each good answer: id, prompt (its text), turns (the whole prompt), chosen, group; and how many undesirable
    answers were skipped."""

    rows: list[Json]
    undesirable: int


def read_answers(path: Path) -> Answers:
    """The good answers of a file, in any of the endings of `trainers.common.rows`; keys beyond those above are kept.

    Raises:
        DataError: with file, line, key and the fix; also where no row is left.
    """
    rows: list[Json] = []
    seen: dict[str, int] = {}
    undesirable = 0
    for row in map(Row.present, read_rows(path)):
        if not isinstance(row.value, dict):
            raise not_an_object(row, _ANSWER_SHAPES)
        if row.value.get("label") is not None and not label_of(row.value, row.where):
            undesirable += 1
            continue
        prompt, answer, used = _parts(row.value, row.where)
        for key, turns in (("prompt", prompt), ("answer", answer)):
            if not plain(turns).strip():
                raise DataError(f"{row.where}: the {key} is empty; every row needs one: remove the row, or fill it")
        name = optional(row.value, "id") or content_id(prompt, answer)
        if name in seen:
            if optional(row.value, "id"):
                raise DataError(f"{row.where}: id {name!r} was used on line {seen[name]}; ids must be unique")
            continue  # the same answer to the same prompt again
        seen[name] = row.line
        rest = {key: value for key, value in row.value.items() if key not in used and value is not None}
        rows.append({**rest, "id": name, "prompt": plain(prompt), "turns": prompt, "chosen": plain(answer)})
    if not rows:
        raise DataError(f"{path}: no good answer; a row has {_ANSWER_SHAPES}")
    return Answers(rows, undesirable)


def _parts(row: Values, where: str) -> tuple[Turns, Turns, tuple[str, ...]]:
    """The prompt, the answer, and the keys they are from."""
    answer = next((key for key in ("chosen", "completion") if row.get(key) is not None), None)
    if row.get("prompt") is None or answer is None:  # as a row of instruction and output
        row = {key: value for key, value in row.items() if key != "prompt"}
        answer = "output" if row.get("output") is not None else None
    prompt = _question(row, where)
    if prompt is not None and answer is not None:
        used = ("prompt",) if row.get("prompt") is not None else ("instruction", "input")
        answered = as_turns(row[answer], "assistant", where, answer)
        if len(answered) != 1 or answered[0]["role"] != "assistant":
            raise DataError(f"{where}: the answer must be one turn of the assistant")
        return prompt, answered, (*used, answer, "system", "history", "label")
    key, turns = _conversation(row, where)
    if key is None:
        keys = ", ".join(map(str, row)) or "none"
        raise DataError(f"{where}: no single answer (keys: {keys}); a row has {_ANSWER_SHAPES}")
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise DataError(f"{where}: '{key}' must end with an assistant's turn, after a question")
    return turns[:-1], turns[-1:], (key, "system", "label")


def _question(row: Values, where: str) -> Turns | None:
    """The prompt under `prompt`, or under `instruction` and `input`, after system and history; None if neither is there."""
    if row.get("prompt") is not None:
        return after_history(row, where, as_turns(row["prompt"], "user", where, "prompt"))
    if row.get("instruction") is None:
        return None
    parts = [text_of(row[key], where, key) for key in ("instruction", "input") if row.get(key)]
    return after_history(row, where, [{"role": "user", "content": "\n".join(parts)}])


def _conversation(row: Values, where: str, history: str | None = None) -> tuple[str | None, Turns]:
    """The key and the turns of a whole conversation, after its system text and history; (None, []) if there is none."""
    key = next((key for key in ("messages", "conversations") if key in row), None)
    return key, after_history(row, where, messages(row[key], where, key), "system", history) if key else []


_PROMPT_SHAPES = "prompt; instruction and input; turns; messages or conversations"
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
    """The prompts of a source, each once; see `trainers.formats.source.open_stream` for how sources are written.

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
        raise DataError(f"{stream.shown}: no prompts; a row has {_PROMPT_SHAPES}")
    return Prompts(list(rows.values()), repeated)


def _prompt(row: Row, read: Callable[[Values, str], Turns]) -> Json:
    value, where = row.value, row.where
    if not isinstance(value, dict):
        raise not_an_object(row, _PROMPT_SHAPES)
    turns = read(value, where)
    turns = turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns
    roles, text = ", ".join(turn["role"] for turn in turns), plain(turns)
    refuse(
        DataError,
        (
            roles != "user",
            f"{where}: a prompt must be one question of the user, and this one has the turns {roles or 'none'}",
        ),
        (not text.strip(), f"{where}: the prompt is empty; remove the row, or fill it"),
    )
    name = next((str(value[key]) for key in _ID_KEYS if value.get(key) not in (None, "")), content_id(turns))
    rest = {key: part for key, part in value.items() if key not in ("id", *_USED, *_ANSWERS) and part is not None}
    return {"id": name, "prompt": text, **rest}


def _asked(row: Values, where: str) -> Turns:
    found = _question(row, where)
    if found is not None:
        return found
    if isinstance(row.get("turns"), list):
        turns = [{"role": "user", "content": text_of(part, where, "turns")} for part in row["turns"]]
        return after_history(row, where, turns)
    key, turns = _conversation(row, where, "history")
    if key is not None:
        return turns
    keys = ", ".join(map(str, row)) or "none"
    raise DataError(f"{where}: no prompt (keys: {keys}); a row has {_PROMPT_SHAPES}")
