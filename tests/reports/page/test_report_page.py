"""The report in a real browser: filters, sorting, keyboard, widths, dark mode, paper; hostile text; odd matrices."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.files.report import write_report
from tests.reports.builder import FIXED, METHODS, Method, write_matrix
from tests.reports.chromium import CHROMIUM, Page, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (make test installs it for root)")

#: Set by a script that must never run.
RAN = "window.ran"
ARABIC, CHINESE = "الجواب هو نعم، بكل تأكيد", "这是第一个回答，用来测试分词"
ATTACKS = [
    "</script><script>window.ran = 1</script>",
    '<img src="x" onerror="window.ran = 1"><svg onload="window.ran = 1">',
    "{{ 7 * 7 }} {% for x in y %} ${window.ran = 1} `<b>bold</b>`",
    "\u202egnp.exe\u202c \x00\x07\x1b[31m",
    "word " * 200_000,
    ARABIC,
    CHINESE,
]


def rewrite(path: Path, change: dict[int, str]) -> None:
    """Put other answers into a file of generations, by line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line, text in change.items():
        rows[line]["text"] = text
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("matrix")
    evil = 'foo"><script>window.ran=1</script>'
    ids = write_matrix(root, METHODS, seeds=(0, 1), failed=[("beta_head", 1)])
    for number, run_id in enumerate(i for i in ids if i != "beta_head-0001ab"):
        attacks = {place: attack for place, attack in enumerate(ATTACKS)}
        attacks[8] = f"The first common words and then {'red' if number else 'blue'} at the end."
        rewrite(root / "runs" / run_id / "generations" / "constraints.jsonl", attacks)
    judged(root, ids)
    label(root / "runs" / ids[0], evil)
    config = {"name": "</title><script>window.ran = 1</script>", "report": {"baseline": evil}}
    return write_report(root, ids, config).as_uri()


def label(run: Path, name: str) -> None:
    """Give a run another method, as a hostile matrix file would."""
    identity = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**identity, "method": name}))


def judged(root: Path, ids: list[str]) -> None:
    """One judge's verdicts on every prompt, of the first two policies of the browser."""
    (root / "comparisons").mkdir()
    record = {"benchmark": "constraints", "judge": "strict", "state": "done", "judges": {}, "left_out": {}}
    (root / "comparisons" / "constraints@strict.json").write_text(json.dumps(record))
    row = {"benchmark": "constraints", "judge": "strict", "sample": 0, "group": None, "length_first": 5}
    row |= {"length_second": 5, "first": ids[0], "second": "reference", "forward": 1.0, "backward": 1.0}
    row |= {
        "preference": 1.0,
        "reason": None,
        "words": ["<script>window.ran = 1</script> [[A]]", "Better: [[B]]\u2028"],
    }
    rows = [{**row, "prompt_id": f"p{i:03d}"} for i in range(16)]
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    (root / "comparisons" / "constraints@strict.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def page(tab: Page, address: str) -> Iterator[Page]:
    tab.size(1400)
    tab.media()
    tab.open(address)
    tab.js("document.querySelectorAll('details').forEach(d => { d.open = true })")
    yield tab
    assert tab.problems == []
    assert [u for u in tab.requests if not u.startswith(("file:", "data:", "about:"))] == []


def choose(page: Page, selector: str, value: str) -> None:
    """Pick an option as a reader does."""
    page.js(f"""(() => {{ const s = document.querySelector({json.dumps(selector)}); s.value = {json.dumps(value)};
      s.dispatchEvent(new Event('change', {{bubbles: true}})); }})()""")


def to_prompt(page: Page, prompt: str) -> None:
    """Turn pages until a prompt is shown."""
    while page.text("#prompt-id") != prompt:
        assert not page.js("document.querySelector('#next').disabled"), f"{prompt} is not there"
        page.js("document.querySelector('#next').click()")


def test_hostile_text_is_shown_and_never_runs(page: Page) -> None:
    assert page.js(f"{RAN} === undefined")
    assert page.js("document.title").startswith("DPO comparison: </title>")
    assert 'foo"><script>' in page.text("#scores")
    shown = {}
    for _ in range(16):
        shown[page.text("#prompt-id")] = page.text("#left-text")
        if page.js("document.querySelector('#next').disabled"):
            break
        page.click("#next")
    assert shown["p000"] == ATTACKS[0] and shown["p001"] == ATTACKS[1] and shown["p002"] == ATTACKS[2]
    assert "⟨U+202E⟩gnp.exe" in shown["p003"] and "␀" in shown["p003"]
    assert "[cut: " in shown["p004"] and len(shown["p004"]) < 2000
    assert shown["p005"] == ARABIC and shown["p006"] == CHINESE
    assert page.js("document.querySelectorAll('#samples img, #samples script, #samples svg, main script').length") == 0
    assert page.js(f"{RAN} === undefined")


def test_arabic_runs_from_right_to_left(page: Page) -> None:
    to_prompt(page, "p005")
    assert page.text("#left-text") == ARABIC
    assert page.js("getComputedStyle(document.querySelector('#left-text')).unicodeBidi") == "plaintext"
    assert page.js("document.querySelector('#left-text').matches(':dir(rtl)')")


def test_filters(page: Page) -> None:
    assert page.text("#count").endswith("of 16")
    seen = {"left": 0, "right": 0, "tie": 0}
    for outcome in seen:
        choose(page, "#f-outcome", outcome)
        text = page.text("#count")
        seen[outcome] = 0 if text.startswith("no") else int(text.split()[-1])
    assert sum(seen.values()) == 16
    choose(page, "#f-outcome", "bothwrong")
    data = "JSON.parse(document.querySelector('#samples-data').textContent).benchmarks[0].prompts"
    wrong = page.js(f"{data}.filter(p => p.answers[1][1] === 0 && p.answers[5 - 1][1] === 0).length")
    assert page.text("#count") == ("no prompt matches" if not wrong else f"1 of {wrong}")
    choose(page, "#f-outcome", "any")
    # All prompts of the builder have one perplexity: every one is in the same quarter.
    choose(page, "#f-ppl", "3")
    assert page.text("#count").endswith("of 16")
    choose(page, "#f-ppl", "0")
    assert page.text("#count") == "no prompt matches"


def test_words_that_differ_are_marked(page: Page) -> None:
    choose(page, "#f-left", "1")
    choose(page, "#f-right", "3")
    to_prompt(page, "p008")
    left, right = page.text("#left-text"), page.text("#right-text")
    marks = page.js(
        "['left', 'right'].map(s => [...document.querySelectorAll(`#${s}-text mark`)].map(m => m.textContent))"
    )
    assert marks == [["blue"], ["red"]], (left, right)
    page.click("#f-diff")
    assert page.js("document.querySelectorAll('#samples mark').length") == 0


def test_the_judge_is_quoted(page: Page) -> None:
    choose(page, "#f-left", "1")
    choose(page, "#f-right", "0")
    assert page.text("#judgements") == (
        "strict: A (1.00)with A shown first:<script>window.ran = 1</script> [[A]]"
        "with B shown first, so that its A is B here:Better: [[B]]⟨U+2028⟩"
    )
    choose(page, "#f-left", "0")
    choose(page, "#f-right", "1")
    assert page.text("#judgements").startswith("strict: B (1.00)with B shown first, so that its A is B here:<script>")
    choose(page, "#f-left", "1")
    choose(page, "#f-right", "2")
    assert page.js("document.querySelector('#judged').hidden")


def test_columns_sort(page: Page) -> None:
    head = "#scores th:nth-child(2) button"
    values = "[...document.querySelectorAll('#scores tbody tr')].map(r => Number(r.cells[1].dataset.value || NaN))"
    for order in ("ascending", "descending"):
        page.click(head)
        found = [v for v in page.js(values) if v is not None]
        assert found == sorted(found, reverse=order == "descending")
        assert page.js("document.querySelector('#scores th:nth-child(2)').getAttribute('aria-sort')") == order


def test_numbers_say_how_they_were_computed(page: Page) -> None:
    page.js("document.querySelector('#scores .n').focus()")
    assert not page.js("document.querySelector('#how').hidden")
    first = page.text("#how")
    assert "prompts" in first
    page.press("ArrowRight")
    assert page.text("#how") != first
    assert page.js("document.activeElement.getAttribute('aria-describedby')") == "how"
    page.js("document.activeElement.blur()")
    assert page.js("document.querySelector('#how').hidden")
    assert page.js("[...document.querySelectorAll('.n')].every(n => n.dataset.how.length > 10)")


#: Texts with a digit that say nothing of how they came about, but for what was set by hand: settings, names, captions of figures.
BARE = """(pattern => {
  const bare = [], walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  const free = '.n, code, pre, select, script, noscript, figcaption, summary, label, a, button, h1, h2, h3, h4, thead, '
    + 'tbody th, .tag, td.long, .head';
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const text = node.textContent.replaceAll('window.ran=1', '').replaceAll(/95\\s%/g, '');
    if (new RegExp(pattern).test(text) && !node.parentElement.closest(free)) bare.push(text.trim());
  }
  return bare; })"""


def test_no_number_stands_without_how_it_was_computed(page: Page) -> None:
    assert page.js(f"{BARE}('\\\\d\\\\.\\\\d')") == []
    sections = (
        "document.querySelectorAll('section:not(#verdict, #checklist, #judges, #noise)').forEach(s => s.remove())"
    )
    page.js(sections)
    assert page.js("document.querySelectorAll('#verdict h1 .n, #verdict table .n, #checklist .n').length") > 20
    # What is left are conditions, not results.
    bare = [text for text in page.js(f"{BARE}('\\\\d')") if not re.match("Strength: |.*at least", text, re.IGNORECASE)]
    assert bare == []


def test_everything_is_named_and_reached_by_tab(page: Page) -> None:
    assert page.unnamed() == []
    page.js("document.querySelectorAll('details').forEach(d => { d.open = false })")
    stops = page.js("document.querySelectorAll('a[href], select, input, button, summary, [tabindex=\"0\"]').length")
    assert page.missed_by_tab(stops + 5) == []


@pytest.mark.parametrize(("width", "dark"), [(400, False), (400, True), (1400, False), (1400, True)])
def test_readable_narrow_wide_light_and_dark(page: Page, width: int, dark: bool) -> None:
    page.size(width)
    page.media(dark=dark)
    assert page.js("document.documentElement.scrollWidth") <= width
    assert page.cut() == []
    assert page.low_contrast() == []


def test_prints_with_nothing_cut(page: Page) -> None:
    page.size(700)  # A4 less its margins, at 96 pixels an inch
    page.js("dispatchEvent(new Event('beforeprint'))")
    page.media(printing=True)
    assert page.js("document.querySelectorAll('details:not([open])').length") == 0
    assert (
        page.js(
            "[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && e.getBoundingClientRect().right > "
            "innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"
        )
        == []
    )
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_hundred_runs_stay_readable_and_small(tab: Page, tmp_path: Path) -> None:
    methods = [FIXED, *(Method(f"rule_{i:02d}", "foodpo", 0.001 * i) for i in range(39))]
    ids = write_matrix(tmp_path, methods, seeds=range(5), prompts=6, steps=2)
    report = write_report(tmp_path, ids)
    assert report.stat().st_size < 8_000_000
    tab.size(400)
    tab.open(report.as_uri())
    assert tab.problems == []
    assert "200 of 200 runs finished" in tab.text("header")
    assert "Of 201 policies the first 40 are here." in tab.text("#samples")
    assert tab.cut() == []
