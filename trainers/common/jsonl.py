"""JSON lines on disk: reading that names file and line, and writing that is atomic."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainers.common.files import Json, write_bytes
from trainers.common.rows import not_an_object, read_rows


def read_jsonl(path: str | os.PathLike[str]) -> list[tuple[int, Json]]:
    """(line number, object) for every non-blank line of a file of this project's own; NaN is null.

    Raises:
        DataError: no such file, or a line that is not a JSON object in UTF-8.
    """
    rows = list(read_rows(Path(path)))
    wrong = next((row for row in rows if not isinstance(row.value, dict)), None)
    if wrong is not None:
        raise not_an_object(wrong, "the keys of a row")
    return [(row.line, row.value) for row in rows]


def dump(row: Mapping[str, Any]) -> str:
    """One line, keys in the given order, UTF-8 kept readable; NaN and infinities are refused."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file atomically with UTF-8 text."""
    write_bytes(Path(path), text.encode("utf-8"))


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows atomically, one JSON object a line."""
    write_text(path, "".join(dump(row) + "\n" for row in rows))
