"""Numbers inside sentences carry how they were computed; names, dates and markup in them do not break."""

from __future__ import annotations

import re

import pytest

from reports.page.how import numbers, sizes


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
