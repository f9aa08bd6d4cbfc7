"""What every format of judgments is read into: one verdict on two answers, and how the answers look."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from reports.foreign.rows import Row

_FENCED = re.compile(r"```.*?(```|\Z)", re.DOTALL)


class Style(NamedTuple):
    """How an answer looks: characters, and counts of Markdown headers, list items and bold spans outside code."""

    length: float
    headers: float = 0.0
    lists: float = 0.0
    bold: float = 0.0


def style_of(text: str) -> Style:
    """The style of an answer."""
    prose = _FENCED.sub("", text)
    patterns = (r"^#{1,6}\s", r"^\s*(?:[-*+]|\d+[.)])\s", r"\*\*[^*\n]+\*\*|__[^_\n]+__")
    headers, lists, bold = (float(len(re.findall(pattern, prose, re.MULTILINE))) for pattern in patterns)
    return Style(float(len(text)), headers, lists, bold)


class Judgment(NamedTuple):
    """One verdict.

    Attributes:
        judge: who gave it; `human` where that is a person, or a label made by people.
        prompt_id: what was asked; `group`: prompts that belong together, such as the turns of a conversation.
        preference: for `first`, in 0..1, a tie one half; None without a verdict.
        forward, backward: the same from the order in which `first` was shown first, and shown second.
    """

    judge: str
    prompt_id: str
    first: str
    second: str
    preference: float | None
    forward: float | None = None
    backward: float | None = None
    human: bool = False
    sample: str = "0"
    group: str | None = None
    style_first: Style | None = None
    style_second: Style | None = None


#: A row, and a verdict that it holds.
Read = Iterator[tuple[Row, Judgment]]


class Format(NamedTuple):
    """One format: a file is of it where its first row has all keys of one of `keys`; `read` takes the rows of all files."""

    name: str
    keys: tuple[frozenset[str], ...]
    read: Callable[[Sequence[Row]], Read]


def digest(*texts: str) -> str:
    """A short name of a prompt that has none but its text."""
    return hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:12]


def agreed(one: float | None, other: float | None) -> float | None:
    """The verdict of two orders where both give the same, a tie where they differ; None where one has none."""
    if one is None or other is None:
        return None
    return one if one == other else 0.5
