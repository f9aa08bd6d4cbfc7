"""Rows of a data file with their line numbers: JSONL, JSON, CSV, TSV and Parquet, the text ones also as .gz."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from trainers.common.turns import DataError

#: Endings by what is inside; `.gz` may follow those of text. Any other ending is read as JSONL.
_TABLES = {".csv": ",", ".tsv": "\t"}
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
#: What stands between the rows of a JSON array.
_BETWEEN_ROWS = re.compile(r"[\s,]*")
#: What a JSON decoder raises: malformed text (also numbers with thousands of digits), or nesting beyond the stack.
_UNREADABLE = (ValueError, RecursionError)


@dataclass(frozen=True)
class Row:
    """A decoded row, the file (or hub data set) it is from, and its line there (its number, where there are no lines)."""

    value: Any
    file: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def not_an_object(row: Row, keys: str) -> DataError:
    """The error of a row that is not a JSON object with `keys`."""
    return DataError(f"{row.where}: expected a JSON object with {keys}, got {type(row.value).__name__}")


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in order; blank lines are skipped.

    Raises:
        DataError: the file is missing, corrupt, not UTF-8, or a row cannot be decoded; with file, line and the fix.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; give a file of preference pairs ({', '.join(_ENDINGS)}, or text as .gz)"
        )
    name = path.name.lower().removesuffix(".gz")
    ending = Path(name).suffix
    try:
        if ending == ".parquet":
            yield from _parquet(path)
        elif ending in _TABLES:
            yield from _table(path, _TABLES[ending])
        elif ending == ".json":
            yield from _json(path)
        else:
            yield from _jsonl(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); re-save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); copy or download it again") from None


def _open(path: Path, newline: str | None = None) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _reason(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _jsonl(path: Path) -> Iterator[Row]:
    with _open(path) as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                yield Row(json.loads(line), str(path), number)
            except _UNREADABLE as error:
                fix = "one object per line"
                if number == 1 and line.lstrip().startswith("["):
                    fix = "one object per line; if the file is one JSON array, name it .json"
                raise DataError(f"{path}:{number}: not valid JSON ({_reason(error)}); {fix}") from None


def _json(path: Path) -> Iterator[Row]:
    """An array of rows, each with the line it begins on; a file that is JSONL in all but its name is read as that."""
    with _open(path) as handle:
        text = handle.read()
    try:
        value = json.loads(text)
    except _UNREADABLE as error:
        if text.lstrip().startswith("["):
            cut = getattr(error, "pos", 0) >= len(text.rstrip())
            fix = "the array is cut short" if cut else "check brackets and commas"
            raise DataError(f"{path}:{getattr(error, 'lineno', 1)}: not valid JSON ({_reason(error)}); {fix}") from None
        yield from _jsonl(path)
        return
    if isinstance(value, dict) and ("chosen" in value or not all(isinstance(part, list) for part in value.values())):
        yield Row(value, str(path), 1)
        return
    if not isinstance(value, list):
        found = f"an object of {', '.join(value)}" if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{path}:1: expected an array of rows, found {found}; write [row, row, ...]")
    decoder, end = json.JSONDecoder(), text.index("[") + 1
    line = 1 + text.count("\n", 0, end)
    for row in value:
        start = _BETWEEN_ROWS.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing too
        line += text.count("\n", end, start)
        yield Row(row, str(path), line)
        _, end = decoder.raw_decode(text, start)
        line += text.count("\n", start, end)


def _table(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # long answers are longer than the default of 128 KiB
    with _open(path, newline="") as handle:
        reader = csv.reader(handle, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{path}:{line}: not valid CSV ({error}); check the quotes") from None
            if header is None:
                header = cells
                twice = next((name for name in header if header.count(name) > 1), None)
                if twice is not None:
                    raise DataError(f"{path}:{line}: duplicate column {twice!r} in the header; rename one")
            elif cells and len(cells) != len(header):
                raise DataError(
                    f"{path}:{line}: {len(cells)} cells, but the header has {len(header)} columns; "
                    "quote text that holds the delimiter"
                )
            elif cells:
                yield Row(dict(zip(header, map(_cell, cells), strict=True)), str(path), line)


def _cell(text: str) -> Any:
    """Text, or the messages it spells out in JSON or, as pandas writes them, in Python."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    for decode in (json.loads, ast.literal_eval):
        try:
            value = decode(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        parts = value if isinstance(value, list) else [value]
        if parts and (all(map(_is_message, parts)) or all(map(_is_exchange, parts))):
            return value
    return text


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and not {"role", "from", "response"}.isdisjoint(value)


def _is_exchange(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(value, str(path), number)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file that can be read ({reason}); write it again") from None
