"""Constraints on the form of the whole answer: case, quotation marks, JSON."""

import json
import re
import unicodedata
from typing import Any, ClassVar

from evals.constraints.registry import Args, Arguments, Constraint, register, texts_arg
from evals.constraints.text import normalise

_FENCE = re.compile(r"\A```(?:json|JSON)?[^\S\n]*\n(.*?)\n?[^\S\n]*```\Z", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」"}


@register("lowercase")
class Lowercase(Constraint):
    """No capital letter, and at least one letter that has a case (Chinese text alone does not pass)."""

    instruction = "Write everything in lowercase letters."

    def check(self, text: str, args: Args) -> bool:
        return any(c.islower() for c in text) and not any(c.isupper() or c.istitle() for c in text)


@register("uppercase")
class Uppercase(Constraint):
    """No small letter, and at least one letter that has a case."""

    instruction = "Write everything in CAPITAL LETTERS."

    def check(self, text: str, args: Args) -> bool:
        return any(c.isupper() for c in text) and not any(c.islower() or unicodedata.category(c) == "Lt" for c in text)


@register("quoted")
class Quoted(Constraint):
    """The whole answer stands in double quotation marks."""

    instruction = "Put your whole answer in double quotation marks."

    def check(self, text: str, args: Args) -> bool:
        answer = normalise(text).strip()
        return len(answer) > 2 and _QUOTES.get(answer[0]) == answer[-1]


@register("json")
class Json(Constraint):
    """The whole answer, with or without a ```json fence, is one JSON object that has the given keys."""

    arguments: ClassVar[Arguments] = {"keys": texts_arg(required=False)}

    def describe(self, args: Args) -> str:
        keys = args.get("keys")
        named = " with the keys " + ", ".join(f'"{key}"' for key in keys) if keys else ""
        return f"Answer with one JSON object{named} and nothing else."

    def check(self, text: str, args: Args) -> bool:
        answer = normalise(text).strip()
        fenced = _FENCE.match(answer)
        try:
            value = json.loads(fenced.group(1) if fenced else answer, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and all(key in value for key in args.get("keys", ()))


def _refuse(name: str) -> Any:
    # Python reads NaN and Infinity; JSON does not know them.
    raise ValueError(name)
