"""The nearest known word, for messages."""

import difflib
import typing


def nearest(word: str, known: typing.Iterable[str], otherwise: str | None = None) -> str:
    """`did you mean 'x'?`; without a similar word `otherwise`, or if that is None the list of what is known."""
    options = sorted(known)
    near = difflib.get_close_matches(str(word), options, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"known: {', '.join(options)}"
