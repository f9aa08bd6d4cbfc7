"""A table of one's own: a row a verdict, with the columns prompt_id, first, second, preference.

`preference` is that for `first`: a number in 0..1, or one of the words first, second, tie; empty without a verdict. Columns
that may be there: judge, human (1 or 0), sample, group, forward and backward (the preference of each order of the answers),
length_first and length_second (characters).
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.foreign.rows import Row
from reports.judgments.judgment import Format, Judgment, Read, Style

_WORDS = {"first": 1.0, "second": 0.0, "tie": 0.5}
_BOOLEANS = {"0": False, "1": True, "False": False, "True": True, "": False}


def _preference(row: Row, key: str) -> float | None:
    word = str(row.values.get(key) or "").strip()
    return _WORDS[word] if word in _WORDS else row.number(key, 0, 1)


def _read(rows: Sequence[Row]) -> Read:
    for row in rows:
        row.need("preference")
        said, forward, backward = (_preference(row, key) for key in ("preference", "forward", "backward"))
        lengths = [row.number(f"length_{side}", 0) for side in ("first", "second")]
        styles = [None if length is None else Style(length) for length in lengths]
        yield row, Judgment(
            row.text("judge", row.path.stem), row.text("prompt_id"), row.text("first"), row.text("second"), said,
            forward, backward, human=row.choice("human", _BOOLEANS, row.values.get("human", "")), sample=row.text("sample", "0"),
            group=row.text("group", row.text("prompt_id")), style_first=styles[0], style_second=styles[1],
        )  # fmt: skip


FORMAT = Format("table", (frozenset(("prompt_id", "first", "second", "preference")),), _read)
