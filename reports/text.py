"""Show text that a model wrote: nothing invisible, nothing that reorders the line, nothing that ends a script."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from .writing import jsonable

#: Longest answer shown in full, in characters.
LONGEST = 1500


def _shown(character: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode has a picture for each control character
    if code == 0x7F:
        return "\u2421"
    # Cf holds the bidirectional controls and zero-width characters, Cs lone surrogates, Zl and Zp line separators.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and code != 0x200D:
        return f"\u27e8U+{code:04X}\u27e9"
    return character


def visible(text: str) -> str:
    """The text with control, bidirectional and other invisible characters replaced by visible names.

    Newline, tab and the joiner inside emoji stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def shorten(text: str, longest: int = LONGEST) -> str:
    """The text, cut with a note that says how much is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\n[cut: {len(text) - longest:,} more characters]"


def script_json(value: Any) -> str:
    """JSON that is inert inside a script element: no `<`, `>`, `&` or line separator appears in it literally."""
    text = json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")
