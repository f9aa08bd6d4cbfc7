"""The formats of preference data: each says which rows it recognises and what they compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.common.turns import DataError, Turns
from trainers.formats.rows import Row, not_an_object

#: Rows looked at to recognise a format.
SAMPLE = 100


@dataclass(frozen=True)
class Comparison:
    """What a row says, in chat turns; `id` and `group` are None where the row has none."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    id: str | None = None
    group: str | None = None
    beta: float | None = None


Outcome = tuple[Row, Comparison | DataError]
Reader = Callable[[Sequence[Row]], Iterator[Outcome]]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """A way to write preferences.

    Attributes:
        name, title: for machines and for people.
        keys: the keys a row has, for messages.
        matches: whether a row (an object) looks like this format; cheap, and true also of rows with mistakes in them.
        read: all rows, each with its comparison or what is wrong with it; a comparison may need several rows.
    """

    name: str
    title: str
    keys: str
    matches: Callable[[Values], bool]
    read: Reader


_FORMATS: dict[str, Format] = {}


def register_format(form: Format) -> Format:
    """Add a format; those registered first are preferred where several recognise a row.

    Raises:
        DataError: the name is taken.
    """
    if form.name in _FORMATS:
        raise DataError(f"format {form.name!r} is already registered; choose another name")
    _FORMATS[form.name] = form
    return form


def formats() -> tuple[Format, ...]:
    """All formats, in the order they are tried."""
    return tuple(_FORMATS.values())


def rowwise(parse: Callable[[Values, str], Comparison]) -> Reader:
    """A reader for formats with one comparison a row: `parse` gets the row and `file:line` for its messages."""

    def read(rows: Sequence[Row]) -> Iterator[Outcome]:
        for row in rows:
            try:
                yield row, parse(row.value, row.where)
            except DataError as error:
                yield row, error

    return read


def detect(rows: Sequence[Row]) -> Format:
    """The format that recognises most of the first rows.

    Raises:
        DataError: none recognises any.
    """
    sample = [row.value for row in rows[:SAMPLE] if isinstance(row.value, dict)]
    counts = {form.name: sum(map(form.matches, sample)) for form in formats()}
    best = max(formats(), key=lambda form: counts[form.name])
    if counts[best.name]:
        return best
    first = rows[0]
    if not sample:
        raise not_an_object(first, "prompt, chosen and rejected")
    row = next(row for row in rows if isinstance(row.value, dict))
    raise DataError(f"{row.where}: {_unknown(row.value)}")


def _unknown(row: Values) -> str:
    keys = ", ".join(map(str, row)) or "none"
    if isinstance(row.get("prompt"), str | list) and "completion" in row:
        return f"a prompt and a completion but no label (keys: {keys}); {one_answer_only('this row')}"
    known = "; ".join(f"{form.name}: {form.keys}" for form in formats())
    return (
        f"no known format of preference data (keys: {keys}); rename the keys, or say which column is which in a "
        f"dataset_info.json; known formats: {known}"
    )


def one_answer_only(what: str) -> str:
    """What to do about prompts with one answer."""
    return (
        f"{what} has one answer and nothing to compare it with; make the rejected answers with python -m harness "
        "build-preferences --chosen-only FILE --strategy corrupted --out PAIRS.jsonl"
    )
