"""Rows of a data file with their line numbers: JSONL, JSON, CSV, TSV and Parquet, the text ones also as .gz, .bz2 or .xz.

Every row that a user brings, from whatever file or data set, is a `Row`: NaN, null and a missing key are then the same.
"""

import ast
import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from trainers.common.turns import DataError, is_messages

#: Endings by what is inside; a packed one may follow those of text. Any other ending is read as JSONL.
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_PACKED: dict[str, Callable[..., BinaryIO]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
#: Endings that are not read, and the way out.
_REFUSED = {
    **dict.fromkeys((".zst", ".zip", ".tar", ".tgz", ".7z", ".lz4", ".br"), "unpack it first"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as CSV (UTF-8)"),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".npz", ".npy", ".h5"), "write its rows as JSONL or Parquet"),
    **dict.fromkeys((".arrow", ".feather"), "give the folder of save_to_disk, or write it as Parquet"),
}
#: Keys of a row; an object with one of them is a row, or its columns.
_ROW_KEYS = {"prompt", "chosen", "instruction", "messages", "conversations", "chosen_messages"}
#: What stands between the rows of a JSON array.
_BETWEEN_ROWS = re.compile(r"[\s,]*")
#: What a JSON decoder raises: malformed text (also numbers with thousands of digits), or nesting beyond the stack.
_UNREADABLE = (ValueError, RecursionError)


@dataclass(frozen=True)
class Row:
    """A decoded row, the file (or hub data set) it is from, and its line there (its number, where there are no lines).

    `number` is its place in a JSON array that has several rows a line, else 0. NaN, as pandas writes what is missing, is null.
    """

    value: Any
    file: str
    line: int
    number: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", without_nan(self.value))

    def present(self) -> "Row":
        """The row without the keys whose value is null, here and in all it holds."""
        return replace(self, value=without_nan(self.value, nulls=False))

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" + (f" (row {self.number})" if self.number else "")


def without_nan(value: Any, nulls: bool = True) -> Any:
    """A decoded value with null for every NaN in it; with `nulls` false, without the keys whose value is null."""
    if isinstance(value, Mapping):
        parts = ((key, without_nan(part, nulls)) for key, part in value.items())
        return {key: part for key, part in parts if nulls or part is not None}
    if isinstance(value, list):
        return [without_nan(part, nulls) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


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
            f"{path}: no such file; give a file of preference pairs ({', '.join(_ENDINGS)}, or text as {', '.join(_PACKED)})"
        )
    packed = path.suffix.lower() in _PACKED
    ending = Path(path.stem if packed else path.name).suffix.lower()
    if ending in _REFUSED:
        raise DataError(f"{path}: {ending} files are not read; {_REFUSED[ending]}")
    try:
        yield from _READERS.get(ending, _jsonl)(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); re-save it as UTF-8") from None
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        if not packed:
            raise
        kind = path.suffix.lower()[1:].replace("gz", "gzip")
        raise DataError(f"{path}: not a whole {kind} file ({error}); copy or download it again") from None


def _open(path: Path, newline: str | None = None) -> TextIO:
    opened = _PACKED.get(path.suffix.lower(), open)
    return io.TextIOWrapper(opened(path, "rb"), encoding="utf-8-sig", newline=newline)


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
                array = number == 1 and line.lstrip().startswith("[")
                fix = "one object per line" + ("; if the file is one JSON array, name it .json" if array else "")
                raise DataError(f"{path}:{number}: not valid JSON ({_reason(error)}); {fix}") from None


def _json(path: Path) -> Iterator[Row]:
    """An array of rows, each with the line it begins on; a file that is JSONL in all but its name is read as that."""
    with _open(path) as handle:
        text = handle.read()
    try:
        value = json.loads(text)
    except _UNREADABLE as error:
        if text.lstrip().startswith("["):
            fix = (
                "the array is cut short"
                if getattr(error, "pos", 0) >= len(text.rstrip())
                else "check brackets and commas"
            )
            raise DataError(f"{path}:{getattr(error, 'lineno', 1)}: not valid JSON ({_reason(error)}); {fix}") from None
        yield from _jsonl(path)
        return
    if isinstance(value, dict):
        yield from _from_object(value, path)
    elif isinstance(value, list):
        yield from _array(value, text, path)
    else:
        raise DataError(f"{path}:1: expected an array of rows, found {type(value).__name__}; write [row, row, ...]")


def _array(rows: list[Any], text: str, path: Path) -> Iterator[Row]:
    """The rows of an array, each with the line it begins on, and numbered where there are fewer line breaks than rows."""
    decoder, end = json.JSONDecoder(), text.index("[") + 1
    line = 1 + text.count("\n", 0, end)
    crowded = text.count("\n", end) < len(rows) - 1
    for number, row in enumerate(rows, start=1):
        start = _BETWEEN_ROWS.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing too
        line += text.count("\n", end, start)
        yield Row(row, str(path), line, number if crowded else 0)
        _, end = decoder.raw_decode(text, start)
        line += text.count("\n", start, end)


def _from_object(value: dict[str, Any], path: Path) -> Iterator[Row]:
    """One object: a single row, the rows under a key of their own, or the columns of all rows.

    Columns are lists (as of Dataset.to_dict) or, as pandas writes a frame, objects by the row's index.
    """
    tables = [key for key, part in value.items() if is_messages(part) and not any(map(_is_message, part))]
    is_row = not _ROW_KEYS.isdisjoint(value)
    if set(value) == {"columns", "index", "data"} and all(isinstance(cells, list) for cells in value["data"]):
        rows = [dict(zip(value["columns"], cells, strict=False)) for cells in value["data"]]  # pandas: orient="split"
    elif len(tables) == 1 and not is_row:
        rows = value[tables[0]]
    elif tables and not is_row:
        raise DataError(
            f"{path}:1: several lists of rows ({', '.join(tables)}); write the one to read as a file of its own"
        )
    elif _is_table(value, list):
        lengths = {key: len(column) for key, column in value.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise DataError(f"{path}:1: columns of different lengths ({shown}); every column has a value for each row")
        rows = [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    elif _is_table(value, dict):
        index = list(
            dict.fromkeys(key for column in value.values() for key in column)
        )  # pandas: its default, or "index"
        rows = [{k: c.get(i) for k, c in value.items()} for i in index] if is_row else list(value.values())
    else:
        yield Row(value, str(path), 1)
        return
    for number, row in enumerate(rows, start=1):
        yield Row(row, str(path), 1, number)


def _is_table(value: dict[str, Any], kind: type[list[Any]] | type[dict[str, Any]]) -> bool:
    """Whether all values are columns of this type, and none is a message or a conversation."""
    columns = [part for part in value.values() if isinstance(part, kind) and part]
    parts = (part if isinstance(part, list) else [part] for part in columns)
    return bool(columns) and len(columns) == len(value) and not any(_is_message(one) for part in parts for one in part)


def _table(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # long answers are longer than the default of 128 KiB
    with _open(path, newline="") as handle:
        reader = csv.reader(handle, delimiter=delimiter, strict=True)
        header: list[str] = []
        line = end = 1
        try:
            for cells in reader:
                line, end = end, reader.line_num + 1
                at = f"{path}:{line}"
                if not header:
                    header, twice = cells, [name for name in cells if cells.count(name) > 1]
                    if twice:
                        raise DataError(f"{at}: duplicate column {twice[0]!r} in the header; rename one")
                elif cells and len(cells) != len(header):
                    raise DataError(
                        f"{at}: {len(cells)} cells, but the header has {len(header)} columns; "
                        "quote text that holds the delimiter"
                    )
                elif cells:
                    yield Row({n: _cell(text, at, n) for n, text in zip(header, cells, strict=True)}, str(path), line)
        except csv.Error as error:
            raise DataError(f"{path}:{end}: not valid CSV ({error}); check the quotes") from None


#: How a list of messages begins where it was printed: by Python, or by numpy, which writes no commas between them.
_PRINTED = re.compile(
    r"""\s*(?:array\()?\s*\[?\s*\{(?=.*['"](?:role|from)\\?['"]\s*:)(?=.*['"](?:content|value)\\?['"]\s*:)""", re.DOTALL
)


def printed_messages(text: str) -> bool:
    """Whether a text is a printed list of messages, which is to be read as one and not trained as it stands."""
    return _PRINTED.match(text) is not None


def _cell(text: str, where: str, column: str) -> Any:
    """Text, or the messages it spells out in JSON or, as pandas writes them, in Python.

    Raises:
        DataError: it looks like messages and cannot be read as such.
    """
    if not text.lstrip().startswith(("[", "{", "array(")):
        return text
    for decode in (json.loads, ast.literal_eval):
        try:
            value = decode(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        parts = value if isinstance(value, list) else [value]
        if parts and (all(map(_is_message, parts)) or all(map(_is_exchange, parts))):
            return value
    if printed_messages(text):
        raise DataError(
            f"{where}: column {column!r} looks like messages and cannot be read (numpy prints lists so): write the rows as JSONL "
            "or Parquet"
        )
    return text


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and not {"role", "from", "response", "messages"}.isdisjoint(value)


def _is_exchange(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            values = (value for batch in file.iter_batches(batch_size=1024) for value in batch.to_pylist())
            for number, value in enumerate(values, start=1):
                yield Row(value, str(path), number)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file that can be read ({reason}); write it again") from None


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".parquet": _parquet,
    ".json": _json,
    ".csv": functools.partial(_table, delimiter=","),
    ".tsv": functools.partial(_table, delimiter="\t"),
}
