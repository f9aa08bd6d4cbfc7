"""JSON lines on disk: reading that names file and line, and writing that is atomic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainers.common.files import Json, write_bytes


class JsonlError(ValueError):
    """A file that is missing, empty, or has a line that is not the JSON object it should be."""


def read_jsonl(path: str | os.PathLike[str], limit: int | None = None, nan: bool = False) -> list[tuple[int, Json]]:
    """(line number, object) for every non-blank line, at most ``limit`` of them; with ``nan``, NaN is taken.

    Raises:
        JsonlError: no such file, or a line that is not a JSON object in UTF-8, or holds NaN or half a surrogate pair: neither
            can be written again.
    """
    path = Path(path)
    if not path.is_file():
        raise JsonlError(f"{path}: no such file; check the path")
    rows: list[tuple[int, Json]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if limit is not None and len(rows) >= limit:
                break
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8"), parse_constant=None if nan else _refuse)
                if b"\\ud" in line.lower():
                    json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeDecodeError as error:
                raise JsonlError(f"{path}:{number}: not UTF-8 ({error}); save the file as UTF-8") from error
            except ValueError as error:
                raise JsonlError(f"{path}:{number}: not JSON ({error}); fix or delete the line") from error
            if not isinstance(value, dict):
                raise JsonlError(f"{path}:{number}: expected a JSON object, got {type(value).__name__}")
            rows.append((number, value))
    return rows


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; leave the key out, or write null")


def dump(row: Mapping[str, Any]) -> str:
    """One line, keys in the given order, UTF-8 kept readable; NaN and infinities are refused."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file atomically with UTF-8 text."""
    write_bytes(Path(path), text.encode("utf-8"))


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows atomically, one JSON object a line."""
    write_text(path, "".join(dump(row) + "\n" for row in rows))
