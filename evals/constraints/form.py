"""Constraints on the form of the whole answer: case, quotation marks, JSON."""

import json as json_module
import re
import unicodedata
from typing import Any

from evals.constraints.registry import Args, builtin, texts_arg
from evals.constraints.text import normalise

_FENCE = re.compile(r"\A```(?:json|JSON)?[^\S\n]*\n(.*?)\n?[^\S\n]*```\Z", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」"}


@builtin("Write everything in lowercase letters.")
def lowercase(text: str, args: Args) -> bool:
    """No capital letter, and at least one letter that has a case (Chinese text alone does not pass)."""
    return any(c.islower() for c in text) and not any(c.isupper() or c.istitle() for c in text)


@builtin("Write everything in CAPITAL LETTERS.")
def uppercase(text: str, args: Args) -> bool:
    """No small letter, and at least one letter that has a case."""
    return any(c.isupper() for c in text) and not any(c.islower() or unicodedata.category(c) == "Lt" for c in text)


@builtin("Put your whole answer in double quotation marks.")
def quoted(text: str, args: Args) -> bool:
    """The whole answer stands in double quotation marks."""
    answer = normalise(text).strip()
    return len(answer) > 2 and _QUOTES.get(answer[0]) == answer[-1]


def _one_object(args: Args) -> str:
    keys = args.get("keys")
    named = " with the keys " + ", ".join(f'"{key}"' for key in keys) if keys else ""
    return f"Answer with one JSON object{named} and nothing else."


@builtin(_one_object, keys=texts_arg(required=False))
def json(text: str, args: Args) -> bool:
    """The whole answer, with or without a ```json fence, is one JSON object that has the given keys."""
    answer = normalise(text).strip()
    fenced = _FENCE.match(answer)
    try:
        value = json_module.loads(fenced.group(1) if fenced else answer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(key in value for key in args.get("keys", ()))


def _refuse(name: str) -> Any:
    # Python reads NaN and Infinity; JSON does not know them.
    raise ValueError(name)
