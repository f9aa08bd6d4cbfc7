"""LaTeX tables: booktabs, every character escaped, as many cells as columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reports.html import write_report
from reports.latex import MOST_ROWS, escape, latex_table, write_latex
from tests.reports.builder import METHODS, write_matrix


def test_special_characters_are_set_as_they_are() -> None:
    assert escape("a_b & 100% {x} $y$ #1 ~ ^ \\") == (
        r"a\_b \& 100\% \{x\} \$y\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape("line\nbreak\x00") == "line break␀"


def test_table() -> None:
    rows: list[dict[str, Any]] = [{"name": "foo_dpo", "value": -0.5, "n": 3}, {"name": "fixed", "value": None, "n": 4}]
    text = latex_table(("name", "value", "n"), rows, "All & sundry", "scores")
    assert r"\begin{tabular}{@{}lrr@{}}" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"foo\_dpo & $-0.500$ & $3$ \\" in text and r"fixed & -- & $4$ \\" in text
    assert r"\caption{All \& sundry}" in text


def test_no_rows_or_too_many_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "t.tex"
    assert write_latex(path, ("a",), [{"a": 1}], "x") == path
    assert write_latex(path, ("a",), [], "x") is None and not path.exists()
    assert write_latex(path, ("a",), [{"a": i} for i in range(MOST_ROWS + 1)], "x") is None


def test_tables_of_a_report_are_rectangular(tmp_path: Path) -> None:
    write_report(tmp_path, write_matrix(tmp_path, METHODS, seeds=(0, 1)))
    found = sorted(p.name for p in (tmp_path / "tables").glob("*.tex"))
    assert found == ["benchmarks.tex", "beta_correlation.tex", "checklist.tex", "paired_differences.tex"]
    for path in (tmp_path / "tables").glob("*.tex"):
        text = path.read_text()
        columns = re.search(r"\{@\{\}([lr]+)@\{\}\}", text)
        assert columns is not None
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns[1])}
