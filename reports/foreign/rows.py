"""Tables of others, row by row: CSV (also compressed by gzip), JSONL, or a JSON list. Errors name file, row and key."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from reports.foreign.csv_log import rows as csv_rows
from reports.foreign.sources import read_json, read_lines, read_text
from reports.runs.records import ReportError
from trainers.common.rows import without_nan

One = TypeVar("One")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file; `place` is its line, or its number in a JSON list counted from 1. NaN is null, also inside a value."""

    path: Path
    place: int
    values: Mapping[str, Any]

    def error(self, problem: str) -> ReportError:
        """An error at this row."""
        return ReportError(f"{self.path}:{self.place}: {problem}")

    def need(self, key: str) -> Any:
        """The value of a key. ReportError where there is none, or null."""
        if self.values.get(key) is None:
            raise self.error(f"no {key!r}; there are: {', '.join(list(self.values)[:12])}")
        return self.values[key]

    def text(self, key: str, default: str | None = None) -> str:
        """A text or a number as text. ReportError where it is missing or empty and there is no default."""
        value = self.values.get(key, default) if default is not None else self.need(key)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
        if default is not None and value in (None, ""):
            return default
        raise self.error(f"{key} is {value!r}; give a text or a number")

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A number within bounds; None where the cell is empty, null or NaN. ReportError for anything else."""
        value = self.values.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            figure = float(value)
        except (TypeError, ValueError):
            raise self.error(f"{key} is {value!r}; give a number") from None
        if math.isnan(figure):
            return None
        if not low <= figure <= high or math.isinf(figure):
            raise self.error(f"{key} is {value!r}; give a number of {low:g} to {high:g}")
        return figure

    def choice(self, key: str, known: Mapping[str, One], value: Any = None) -> One:
        """What the word under a key (or this `value` of it) stands for. ReportError for a word that is not known."""
        word = str(self.need(key) if value is None else value).strip()
        if word not in known:
            raise self.error(f"{key} is {word!r}; known: {', '.join(known)}")
        return known[word]


def read_rows(path: Path) -> list[Row]:
    """All rows of a file. ReportError for a file that cannot be read, is of another kind or is empty."""
    kinds = [suffix.lower() for suffix in path.suffixes[-2:] if suffix.lower() != ".gz"]
    if kinds[-1:] in ([".csv"], [".tsv"]):
        placed: Iterable[tuple[int, Any]] = csv_rows(path)
    elif read_text(path).lstrip().startswith("["):  # a list, also where it is called .jsonl (lm-eval 0.4.0)
        placed = enumerate(read_json(path), start=1)
    else:
        placed = read_lines(path)
    found = [Row(path, place, without_nan(values)) for place, values in placed]
    if not found:
        raise ReportError(f"{path}: no rows; was the file copied whole?")
    for row in found:
        if not isinstance(row.values, dict):
            raise row.error(f"expected an object, found {type(row.values).__name__}")
    return found


def keys_of(rows: Sequence[Row]) -> dict[str, None]:
    """The keys of all rows, in order: the first may lack one."""
    return dict.fromkeys(key for row in rows for key in row.values)
