"""LaTeX tables: booktabs, every character escaped, as many cells as columns."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reports.files.report import write_report
from reports.page.latex import MOST_ROWS, PAGE_LINES, escape, latex_table, write_latex
from tests.reports.builder import METHODS, write_matrix


def test_special_characters_are_set_as_they_are() -> None:
    assert escape("a_b & 100% {x} $y$ #1 ~ ^ \\") == (
        r"a\_b \& 100\% \{x\} \$y\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape("line\nbreak\x00") == r"line break\ifdefined\Umathchar ␀\else [U+2400]\fi{}"


def test_table() -> None:
    rows: list[dict[str, Any]] = [{"name": "foo_dpo", "value": -0.5, "n": 3}, {"name": "fixed", "value": None, "n": 4}]
    text = latex_table(("name", "value", "n"), rows, "All & sundry", "scores")
    assert r"\begin{tabular}{@{}lrr@{}}" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"foo\_dpo & $-0.500$ & $3$ \\" in text and r"fixed & -- & $4$ \\" in text
    assert r"\caption{All \& sundry}" in text


def test_long_tables_come_in_parts_and_long_texts_in_lines() -> None:
    rows = [{"name": f"row {i}", "text": "word " * 10} for i in range(PAGE_LINES + 1)]  # two lines each
    text = latex_table(("name", "text"), rows, "All of it.", "all")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert r"\caption{All of it (part 3 of 3).}" in text and r"\label{tab:all-3}" in text and r"\label{tab:all}" in text
    assert len([line for line in text.splitlines() if line.startswith("row ")]) == len(rows)
    assert r"{@{}l>{\raggedright\arraybackslash}p{0.45\linewidth}@{}}" in text


def test_small_numbers_are_not_zero_and_other_scripts_stop_no_engine() -> None:
    assert latex_table(("p",), [{"p": 0.00004}, {"p": 0.0}], "x", "x").count(r"$4.0\times10^{-5}$") == 1
    assert escape("na\u00efve \u4e2d\u6587 a--b") == (
        "na\u00efve \\ifdefined\\Umathchar \u4e2d\u6587\\else [U+4E2D U+6587]\\fi{} a-{}-b"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_pdflatex_sets_every_table(tmp_path: Path) -> None:
    every = (
        "".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)]))
        + "\x07"
        + "\u2013\u2026\u4e2d\u0627\U0001f600 {{ }} $x^2$ \\input{x}"
    )
    names = [" ".join(every[i : i + 40][j : j + 5] for j in range(0, 40, 5)) for i in range(0, len(every), 40)]
    rows: list[dict[str, Any]] = [{"name": f"m_{i}", "value": 0.5 * i, "n": i, "yes": True} for i in range(100)]
    rows += [{"name": name, "value": -1e-9, "n": 0, "yes": False} for name in names]
    write_latex(tmp_path / "t.tex", ("name", "value", "n", "yes"), rows, f"All & {names[0]}")
    head = r"\documentclass{article}\usepackage{booktabs,graphicx,array}\begin{document}"
    (tmp_path / "paper.tex").write_text(head + r"\input{t}\end{document}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and "too large for page" not in done.stdout


def test_no_rows_or_too_many_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "t.tex"
    assert write_latex(path, ("a",), [{"a": 1}], "x") == path
    assert write_latex(path, ("a",), [], "x") is None and not path.exists()
    assert write_latex(path, ("a",), [{"a": i} for i in range(MOST_ROWS + 1)], "x") is None


def test_tables_of_a_report_are_rectangular(tmp_path: Path) -> None:
    write_report(tmp_path, write_matrix(tmp_path, METHODS, seeds=(0, 1)))
    found = sorted(p.name for p in (tmp_path / "tables").glob("*.tex"))
    assert found == ["benchmarks.tex", "beta_correlation.tex", "checklist.tex", "paired_differences.tex", "results.tex"]
    for path in (tmp_path / "tables").glob("*.tex"):
        text = path.read_text()
        columns = re.search(r"\{@\{\}(.+)@\{\}\}", text)
        assert columns is not None
        count = len(columns[1].replace(r">{\raggedright\arraybackslash}p{0.45\linewidth}", "p"))
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {count}
