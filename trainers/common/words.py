"""The nearest known word, for messages."""

from __future__ import annotations

import difflib
import typing


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """`did you mean 'x'?`, or the list of what is known."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(options)}"
