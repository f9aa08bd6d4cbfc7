"""Prompt rows from files, in the shapes that prompt sets come in."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.benchmarks.base import BenchmarkError, Row
from trainers.common import DataError, not_an_object, read_rows, refuse

#: Keys that may hold the id of a row, the first that is there; else it is row-<line>.
ID_KEYS = ("id", "question_id", "key")


def read(path: Path, limit: int | None) -> list[tuple[str, Row]]:
    """("file:line", row) for the first `limit` rows, every row with a unique text as `id`.

    Raises:
        BenchmarkError: no such file, no rows, a line that is not an object, or a duplicate id.
    """
    seen: dict[str, str] = {}
    found = []
    try:
        for row in itertools.islice(read_rows(path), limit):
            if not isinstance(row.value, dict):
                raise not_an_object(row, "a prompt")
            name = str(
                next(
                    (row.value[key] for key in ID_KEYS if row.value.get(key) is not None),
                    f"row-{row.number or row.line}",
                )
            )
            if name in seen:
                raise DataError(f"{row.where}: id {name!r} is also on line {seen[name]}; ids must be unique")
            json.dumps(row.value, ensure_ascii=False).encode()
            seen[name] = row.where.removeprefix(f"{path}:")
            found.append((row.where, {**row.value, "id": name}))
    except DataError as error:
        raise BenchmarkError(str(error)) from None
    except UnicodeEncodeError as error:  # half of a pair cannot be written again
        raise BenchmarkError(f"{row.where}: half of an emoji ({error.reason}); repair or remove it") from None
    if not found:
        raise BenchmarkError(f"{path}: holds no rows; write one JSON object a line")
    return found


def text_of(row: Row, keys: Sequence[str], where: str) -> str:
    """The first of `keys` that the row has, a non-empty text.

    Raises:
        BenchmarkError: none is there, or it is not a text.
    """
    key = next((key for key in keys if key in row), "")
    value: Any = row.get(key)
    refuse(
        BenchmarkError,
        (not key, f"{where}: the row has no {' or '.join(map(repr, keys))}; add it"),
        (
            not isinstance(value, str) or not value.strip(),
            f"{where}: {key!r} must be a non-empty text, got {value!r:.80}",
        ),
    )
    return str(value)


def load_prompts(path: Path, limit: int | None) -> list[Row]:
    """Rows with `id` and `turns`, what the user says one after the other; `prompt` is the first turn.

    Read are `prompt`, AlpacaEval's `instruction` (its `input`, where there is one, follows after a blank line) and
    MT-Bench's `turns`.

    Raises:
        BenchmarkError: with file and line.
    """
    found = []
    for where, row in read(path, limit):
        if "turns" in row:
            turns: Any = row["turns"]
            if not isinstance(turns, list) or not turns or not all(isinstance(t, str) and t.strip() for t in turns):
                raise BenchmarkError(f"{where}: 'turns' must be a list of non-empty texts, got {turns!r:.80}")
        else:
            text = text_of(row, ("prompt", "instruction"), where)
            extra = row.get("input") if "prompt" not in row else None
            turns = [f"{text}\n\n{extra}" if isinstance(extra, str) and extra.strip() else text]
        found.append({**row, "prompt": turns[0], "turns": turns})
    return found
