"""Text in pages: escaping, shortening, plain tables, the content security policy."""

import base64
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reports.writing import jsonable

TEMPLATES = Path(__file__).parents[1] / "templates"

# Show text that a model wrote: nothing invisible, nothing that reorders the line, nothing that ends a script.


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
    inert = text.translate({ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
    return inert.encode("utf-8", "replace").decode("utf-8")


# Filling the templates.


def templates(escape: bool, **options: Any) -> jinja2.Environment:
    """The report's templates; `escape` makes whatever is put into them inert in HTML. A name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def page_parts(style: str, *scripts: str) -> dict[str, str]:
    """`script`, `style` and `csp` of a self-contained page, from files beside the templates; scripts are joined in order."""
    # Not by way of jinja, which strips a last newline: the hash must be over exactly what the page holds.
    script = Markup("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in scripts))
    sheet = Markup((TEMPLATES / style).read_text(encoding="utf-8"))
    return {"script": script, "style": sheet, "csp": content_security_policy(script, sheet)}


# The Content-Security-Policy of a self-contained page: its own script and style sheet, by hash, and nothing else.


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def content_security_policy(script: str, style: str) -> str:
    """Only this script and this style sheet run, by hash; images only from the page itself; no request leaves it."""
    return (
        f"default-src 'none'; script-src '{_sha256(script)}'; style-src '{_sha256(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


# A table in plain text: what a terminal, a log file and a README all take.


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, two spaces apart; the first column left, the others right aligned."""
    every = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in every
    ]
    return "\n".join(line.rstrip() for line in lines)
