"""The report stands alone, says what is missing, and nothing a model wrote can act in it."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from reports.files.report import write_report
from reports.page.context import markdown_cell
from reports.page.explain import explain_html
from reports.page.first import print_summary
from reports.page.samples import load_generations
from reports.page.text import script_json, shorten, visible
from reports.panels.all import all_panels
from reports.runs.records import ReportError
from tests.reports.builder import HOSTILE, METHODS, write_matrix


class Page(HTMLParser):
    """Elements with attributes, and the text of every script and style element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.raw.append((self._open, data))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("matrix")
    cells = {"failed": [("beta_head", 1)], "missing": [("foodpo", 1)]}
    ids = write_matrix(root, METHODS, seeds=(0, 1), prompts=64, steps=20, **cells)
    for step, state in ((4, "failed"), (6, "done")):
        folder = root / "runs" / "foodpo-0000ab" / "snapshots" / f"step-{step}"
        folder.mkdir(parents=True)
        error = {"class": "EngineError", "message": f"<no> memory | at step {step}"}
        (folder / "status.json").write_text(json.dumps({"state": state, "error": error}))
    return write_report(root, ids, {"name": "<b>demo</b>", "report": {"baseline": "fixed"}})


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def test_policy_allows_exactly_the_script_and_style_of_the_page(page: Page) -> None:
    meta = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert meta is not None and meta.startswith("default-src 'none'") and "unsafe" not in meta
    for tag, text in page.raw:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert (f"'sha256-{digest}'" in meta) == (not text.startswith("{"))  # data is no code and needs no hash
        assert tag in ("script", "style")
    assert [t for t, _ in page.raw] == ["style", "script", "script"]


def test_nothing_is_fetched_and_nothing_is_inline(report: Path, page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name)
            # explain.html lies beside the report and is opened only when its link is followed.
            assert value in (None, "explain.html") or value.startswith(("#", "data:image/")), (tag, value)
    assert (report.parent / "explain.html").read_text(encoding="utf-8") == explain_html()


def test_hostile_answers_are_inert_and_visible(report: Path, page: Page) -> None:
    text = report.read_text(encoding="utf-8")
    for needle in ("<script>alert", "<img src=x", "\u202e", "\u2028", "\x00", "\x1b", "\u200b", "<b>demo"):
        assert needle not in text
    data = next(t for _, t in page.raw if t.startswith("{"))
    answers = [a[0] for p in json.loads(data)["benchmarks"][0]["prompts"] for a in p["answers"].values()]
    assert "</script><script>alert(1)</script>" in answers
    assert any("⟨U+202E⟩evil" in a and "␀" in a and "␛[31m" in a for a in answers)
    assert any("[cut: " in a for a in answers)
    assert max(map(len, answers)) < 1600


def test_sections_come_in_the_order_a_reviewer_reads(page: Page) -> None:
    order = [a["id"] for t, a in page.elements if t == "section"]
    assert order == [
        "verdict",
        "answers",
        "instrument",
        "beta",
        "checklist",
        "scores",
        "differences",
        "frontier",
        "curves",
        "beta-more",
        "tuning",
        "strata",
        "samples",
        "unfinished",
        "noise",
        "provenance",
    ]


def test_failed_and_missing_runs_are_named(report: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (report.parent / name).read_text()
        assert "beta_head-0001ab" in text.replace("\\", "") and "foodpo-0001ab" in text.replace("\\", "")
        assert "tried to allocate &lt;2 GiB&gt;" in text
        assert "4 of 6 runs finished" in re.sub("<[^>]+>", "", text)


def test_checkpoints_that_could_not_be_evaluated_are_named_with_their_error(report: Path) -> None:
    summary = json.loads((report.parent / "summary.json").read_text())
    lost = [{"step": 4, "error": "EngineError: <no> memory | at step 4"}]
    assert {r["run_id"]: r["failed_checkpoints"] for r in summary["runs"] if r["failed_checkpoints"]} == {
        "foodpo-0000ab": lost
    }
    page, text = report.read_text(), report.with_suffix(".md").read_text()
    assert "EngineError: &lt;no&gt; memory | at step 4" in page and "at step 6" not in page
    assert r"| foodpo, seed 0 | 4 | EngineError: &lt;no&gt; memory \| at step 4 |" in text


def test_every_control_has_a_name(page: Page) -> None:
    labelled = {a.get("for") for t, a in page.elements if t == "label"}
    assert all(a["id"] in labelled for t, a in page.elements if t == "select")
    assert all(a.get("alt") for t, a in page.elements if t == "img")
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for t, a in page.elements if a.get("class") == "scroll")


def test_figures_and_tables_are_written(report: Path) -> None:
    names = {p.stem for p in (report.parent / "figures").iterdir()}
    own = {"training_curves", "result", "differences"}
    assert own <= names <= own | {panel.name for panel in all_panels()}
    assert {p.suffix for p in (report.parent / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    for name in names:
        assert len((report.parent / "tables" / f"{name}.csv").read_text().splitlines()) > 1, name


def test_what_could_not_be_drawn_is_said(report: Path) -> None:
    text, markdown = report.read_text(encoding="utf-8"), (report.parent / "report.md").read_text(encoding="utf-8")
    for panel in all_panels():
        drawn = (report.parent / "figures" / f"{panel.name}.svg").exists()
        if panel.section == "judges" or panel.name == "result":
            continue  # there only where there are judges; the page has its two halves
        assert f"panel-{panel.name}" in text and "data:image/" in text
        assert panel.section == "headline" or (f"figures/{panel.name}.png" in markdown) == drawn
        assert drawn or html.escape(panel.absent, quote=False) in text.replace("&#39;", "'").replace("&#34;", '"')


def test_markdown_tables_are_rectangular(report: Path) -> None:
    width = None
    for line in (report.parent / "report.md").read_text().splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells


def test_latex_tables_are_rectangular(report: Path) -> None:
    found = sorted((report.parent / "tables").glob("*.tex"))
    names = ("benchmarks", "beta_correlation", "checklist", "paired_differences", "results")
    assert [p.name for p in found] == [f"{name}.tex" for name in names]
    for path in found:
        text = path.read_text()
        columns = re.search(r"\{@\{\}(.+)@\{\}\}", text)
        assert columns is not None
        count = len(columns[1].replace(r">{\raggedright\arraybackslash}p{0.45\linewidth}", "p"))
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {count}


def test_a_report_of_usual_size_stays_small(report: Path) -> None:
    assert report.stat().st_size < 3_000_000


def test_damaged_generation_names_file_and_line(report: Path, tmp_path: Path) -> None:
    lines = (report.parent / "runs/fixed-0000ab/generations/constraints.jsonl").read_text().splitlines()
    path = tmp_path / "constraints.jsonl"
    path.write_text("\n".join([*lines[:2], lines[2][:20]]))
    with pytest.raises(ReportError, match=r"constraints\.jsonl:3"):
        load_generations(path)


def test_terminal_summary_names_what_failed(report: Path, tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=(tmp_path / "out.txt").open("w"))
    print_summary(report.parent, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80 and len(text.splitlines()) <= 25
    assert "undecided" in text and "failed beta_head-0001ab" in text and "cannot decide" in text
    with pytest.raises(ReportError, match=r"summary\.json"):
        print_summary(tmp_path / "nowhere")


def test_text_helpers() -> None:
    assert visible("plain") == "plain"
    assert visible("a\r\nb\tc") == "a\nb\tc"
    assert visible("家族 👩‍👩‍👧 é") == "家族 👩‍👩‍👧 é"
    for text in HOSTILE:
        shown = visible(text)
        assert visible(shown) == shown
        assert json.loads(script_json({"x": shown}))["x"] == shown
        assert not set("<>&\u2028\u2029") & set(script_json(text))
    assert shorten("x" * 20, 5) == "xxxxx\n[cut: 15 more characters]"
    assert markdown_cell("a|b\n<i>`*") == "a\\|b &lt;i&gt;\\`\\*"
