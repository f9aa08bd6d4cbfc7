"""Tables of the comparison for a paper: LaTeX with booktabs, one file per table, from the same rows as the CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .text import visible
from .writing import write_text

#: Longest table set in LaTeX; a longer one is for machines and stays CSV.
MOST_ROWS = 120
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}


def escape(text: Any) -> str:
    """Text that LaTeX sets as it is: every special character escaped, line breaks and invisible characters gone."""
    words = " ".join(visible(str(text)).split())
    return "".join(_ESCAPES.get(character, character) for character in words)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"${value:.3f}$"
    if isinstance(value, int):
        return f"${value}$"
    return escape(value)


def latex_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], caption: str, label: str) -> str:
    """A table environment with booktabs rules; columns of numbers are set to the right."""

    def numeric(column: str) -> bool:
        values = [row.get(column) for row in rows if row.get(column) is not None]
        return bool(values) and all(isinstance(v, (int, float)) for v in values)

    alignment = "".join("r" if numeric(c) else "l" for c in columns)
    body = [" & ".join(_cell(row.get(c)) for c in columns) + r" \\" for row in rows]
    return "\n".join(
        [
            "% \\usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            " & ".join(escape(c.replace("_", " ")) for c in columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def write_latex(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], caption: str) -> Path | None:
    """Write the table, or remove an old one and return None where there are no rows or more than MOST_ROWS."""
    kept = list(rows)
    if not kept or len(kept) > MOST_ROWS:
        path.unlink(missing_ok=True)
        return None
    return write_text(path, latex_table(columns, kept, caption, path.stem.replace("_", "-")))
