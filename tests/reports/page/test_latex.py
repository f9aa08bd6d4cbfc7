"""LaTeX tables of a paper, and the words behind the numbers."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reports.page.how import numbers, sizes
from reports.page.latex import MOST_ROWS, PAGE_LINES, escape, latex_table, write_latex

# LaTeX tables: booktabs, every character escaped, as many cells as columns.


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


# Numbers inside sentences carry how they were computed; names, dates and markup in them do not break.


def found(text: str, names: tuple[str, ...] = ()) -> list[str]:
    """The numbers of a sentence that got an explanation."""
    page = str(numbers(text, "from 3 <seeds>", names))
    assert page.count('title="from 3 &lt;seeds&gt;"') == page.count("<span")
    plain = (
        re.sub(r"<[^>]+>", "", page)
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&#34;", '"')
        .replace("&amp;", "&")
    )
    assert plain == text
    return re.findall(r">([^<]*)</span>", page)


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("scored 0.010 lower than b over 2 seeds x 48 prompts", (), ["0.010", "2", "48"]),
        ("(95 % interval -0.143 to +0.122)", (), ["-0.143", "+0.122"]),
        ("Holm p = 3.1e-05 over 1,200 tests, 12 % of 10", (), ["3.1e-05", "1,200", "12 %", "10"]),
        ("not attainable with S=2, needs 6.", (), ["2", "6"]),
        ("run-2 [c=0.5] scored 0.5 on gsm8k/acc-2 at v1.2.3", ("run-2 [c=0.5]", "gsm8k", "acc-2"), ["0.5"]),
        ("claim 7 holds on 7 prompts", ("claim 7",), ["7"]),
        ("frozen 2026-01-02T03:04:05+00:00", (), []),
        ('<b>3</b> & "4"', (), ["3", "4"]),
        ("vllm 0.32.0 and transformers 5.19.0 agree on 8.", (), ["8"]),
        ("no number", (), []),
    ],
)
def test_numbers_of_a_sentence(text: str, names: tuple[str, ...], expected: list[str]) -> None:
    assert found(text, names) == expected


def test_invisible_characters_are_shown() -> None:
    assert "⟨U+202E⟩" in str(numbers("a \u202e 3", "x")) and "\u202e" not in str(numbers("\u202e3\u202e", "x"))


def test_settings_are_counted() -> None:
    assert sizes([{"label": f"a[c={c}]"} for c in (1, 2)]) == "Drawn from 2 rows, 2 methods, each setting counted."


def test_from_how_many_a_figure_is_drawn() -> None:
    rows = [{"label": "a", "seed": s, "n": 4 + s, "seeds": 2} for s in (0, 1)] + [
        {"label": "reference", "seed": None, "n": 9}
    ]
    assert sizes(rows) == "Drawn from 3 rows, 1 method, 2 seeds, seeds a row: 2, n of a row: 4 to 9."
