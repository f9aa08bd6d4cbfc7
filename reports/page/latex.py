"""Tables of the comparison for a paper: LaTeX with booktabs, one file per table, from the same rows as the CSV.

They compile with pdfLaTeX as with XeLaTeX and LuaLaTeX, whatever scripts the names are written in, and no row is cut: a table is
made as narrow as the text, a long one comes in parts of a page.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.page.text import visible
from reports.writing import write_text

#: Longest table set in LaTeX; a longer one is for machines and stays CSV.
MOST_ROWS = 120
#: Lines of a table that stand on one page.
PAGE_LINES = 40
#: A column with a longer text than this is broken into lines; of so many letters at the least.
LONGEST_LINE, LINE = 40, 28
#: What pdfLaTeX sets without further packages.
_KNOWN = "\u00c0-\u00cf\u00d1-\u00d6\u00d8-\u00dd\u00df-\u00ef\u00f1-\u00f6\u00f8-\u00fd\u00ff"
_KNOWN += "\u2013\u2014\u2018\u2019\u201c\u201d\u2026"
_FOREIGN = re.compile(rf"[^\x00-\x7f{_KNOWN}]+")
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
    '"': r"\textquotedblright{}",
}


def escape(text: Any) -> str:
    """Text that LaTeX sets as it is: every special character escaped, line breaks and invisible characters gone."""
    words = " ".join(visible(str(text)).split())
    escaped = "".join(_ESCAPES.get(character, character) for character in words)
    return _FOREIGN.sub(_either, escaped.replace("--", "-{}-"))


def _either(characters: re.Match[str]) -> str:
    """Another script, as it is where the engine can set it, else by code point: pdfLaTeX stops at what it does not know."""
    names = " ".join(f"U+{ord(character):04X}" for character in characters[0])
    return rf"\ifdefined\Umathchar {characters[0]}\else [{names}]\fi{{}}"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < abs(value) < 0.0005:  # not 0.000
        mantissa, exponent = f"{value:.1e}".split("e")
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    if isinstance(value, (int, float)):
        return f"${value:.3f}$" if isinstance(value, float) else f"${value}$"
    return escape(value)


def latex_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], caption: str, label: str) -> str:
    """Table environments with booktabs rules; columns of numbers are set to the right, long texts in lines."""
    alignment = "".join(_alignment([row[column] for row in rows if row.get(column) is not None]) for column in columns)
    lines, parts = [r"% \usepackage{booktabs,graphicx,array}"], _pages(rows, columns)
    for number, part in enumerate(parts, start=1):
        said = f"{caption.removesuffix('.')} (part {number} of {len(parts)})." if len(parts) > 1 else caption
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(said)}}}",
            rf"\label{{tab:{label if number == 1 else f'{label}-{number}'}}}\smallskip",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            " & ".join(escape(c.replace("_", " ")) for c in columns) + r" \\",
            r"\midrule",
            *(" & ".join(_cell(row.get(c)) for c in columns) + r" \\" for row in part),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join([*lines, ""])


def _alignment(values: Sequence[Any]) -> str:
    if values and all(isinstance(value, (int, float)) for value in values):
        return "r"
    longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    return r">{\raggedright\arraybackslash}p{0.45\linewidth}" if longest > LONGEST_LINE else "l"


def _pages(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    """Rows in parts that fit on a page, a row taking as many lines as its longest text."""
    pages: list[list[Mapping[str, Any]]] = []
    room = 0
    for row in rows:
        texts = [value for c in columns if isinstance(value := row.get(c), str)]
        widths = [len(_FOREIGN.sub(lambda run: 9 * run[0], visible(text))) for text in texts]  # as wide as U+4E2D
        lines = max([1, *(math.ceil(width / LINE) for width in widths)])
        if lines > room:
            pages.append([])
            room = PAGE_LINES
        pages[-1].append(row)
        room -= lines
    return pages


def latex_figure(file: str, caption: str, label: str) -> str:
    """A figure environment that takes a vector PDF; `file` as seen from the directory of the report."""
    lines = [r"\begin{figure}", r"\centering", rf"\includegraphics[width=\linewidth]{{{file}}}"]
    return "\n".join([*lines, rf"\caption{{{escape(caption)}}}", rf"\label{{fig:{label}}}", r"\end{figure}", ""])


def write_latex(
    path: Path,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    caption: str,
    figure: tuple[str, str] | None = None,
) -> Path | None:
    """Write the table, or remove an old one and return None where there are no rows or more than MOST_ROWS.

    `figure`: the PDF and the caption of a figure that follows the table.
    """
    if not 0 < len(rows) <= MOST_ROWS:
        path.unlink(missing_ok=True)
        return None
    label = path.stem.replace("_", "-")
    text = latex_table(columns, rows, caption, label)
    return write_text(path, text + (latex_figure(*figure, label) if figure else ""))
