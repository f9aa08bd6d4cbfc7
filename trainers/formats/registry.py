"""The formats of preference data: each says which rows it recognises and what they compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.common import DataError, Row, Turns


@dataclass(frozen=True)
class Comparison:
    """What a row says, in chat turns; `id` and `group` are None where the row has none, and so is `flipped`. `note`: what of it
    was left out."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    id: str | None = None
    group: str | None = None
    beta: float | None = None
    flipped: bool | None = None
    note: str | None = None


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
        used: the keys that are read, beside id and group.
    """

    name: str
    title: str
    keys: str
    matches: Callable[[Values], bool]
    read: Reader
    used: tuple[str, ...]


@dataclass(frozen=True)
class Stream:
    """A source before its rows are read.

    Attributes:
        name: short, for ids and tables.
        shown: what messages call it.
        form: None where the rows will tell.
        limit: `num_samples` of LLaMA-Factory.
        notes: what was skipped.
        asked: the turns of a row before the answers, given the row and `file:line`; None where its keys will tell.
    """

    name: str
    shown: str
    rows: Iterator[Row]
    form: Format | None = None
    limit: int | None = None
    notes: list[str] = field(default_factory=list)
    asked: Callable[[Values, str], Turns] | None = None


def rowwise(parse: Callable[[Values, str], Comparison]) -> Reader:
    """A reader for formats with one comparison a row: `parse` gets the row and `file:line` for its messages."""

    def read(rows: Sequence[Row]) -> Iterator[Outcome]:
        for row in rows:
            try:
                yield row, parse(row.value, row.where)
            except DataError as error:
                yield row, error

    return read


#: Texts that `build-preferences` writes about a pair.
_ABOUT = ("style", "topic", "how", "rule")


def unread(row: Values, used: Sequence[str]) -> list[str]:
    """The keys of a row that hold a text, a list or an object, and are not read."""
    read = ("id", "group", *used, *_ABOUT)
    return [key for key, value in row.items() if key not in read and value and isinstance(value, str | list | dict)]


def one_answer_only(what: str) -> str:
    """What to do about prompts with one answer."""
    return (
        f"{what} has one answer and nothing to compare it with; make the rejected answers with python -m harness "
        "build-preferences --chosen-only FILE --strategy corrupted --out PAIRS.jsonl"
    )
