"""Every method over the reference, and what the report says of the engine."""

import csv
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from reports.compare.on_record import engine_summary
from reports.files.metrics import write_run_files
from reports.files.report import write_report
from reports.page.first import print_summary
from reports.panels.all import all_panels
from reports.panels.base import looks, style
from reports.runs.records import load_matrix
from reports.schema import Summary
from tests.reports import example
from tests.reports.builder import FIXED, FOODPO, HOSTILE, METHODS, write_matrix
from tests.reports.chromium import CHROMIUM, browser

# Every method against the reference: known values, first lines of every report, headline figure, answers before and
# after.


PROMPTS = 12


def _reward(path: Path, values: np.ndarray) -> None:
    content = json.loads(path.read_text())
    for item, value in zip(content["items"], values, strict=True):
        item["values"]["gold_reward"] = float(value)
    path.write_text(json.dumps(content))


def _kl(folder: Path, policy: str, values: np.ndarray) -> None:
    metrics = {"kl_k3": {"value": float(values.mean()), "stderr": 0.1, "n": values.size, "higher_is_better": None}}
    content: dict[str, Any] = {"benchmark": "kl", "kind": "kl", "policy": policy, "primary_metric": "kl_k3"}
    content["metrics"] = metrics
    content["items"] = [{"id": f"k{i}", "values": {"kl_k3": float(v)}} for i, v in enumerate(values)]
    (folder / "kl.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str], dict[str, np.ndarray]]]:
    """Three methods, two seeds, KL at the end and, of the first seed, half way; beta_head finished one seed only."""
    root, rng = tmp_path_factory.mktemp("matrix"), np.random.default_rng(0)
    ids = write_matrix(root, METHODS, seeds=(0, 1), prompts=PROMPTS, failed=[("beta_head", 1)])
    rewards = {"reference": rng.normal(0.2, 0.2, PROMPTS)}
    _reward(root / "reference" / "scores" / "constraints.json", rewards["reference"])
    for place, run in enumerate(i for i in ids if i != "beta_head-0001ab"):
        folder = root / "runs" / run / "scores"
        rewards[run] = rewards["reference"] + 0.4 + 0.05 * place + rng.normal(0, 0.1, PROMPTS)
        _reward(folder / "constraints.json", rewards[run])
        _kl(folder, run, np.full(6, 4.0 + place))
        if run.endswith("0000ab"):
            middle = root / "runs" / run / "snapshots" / "step-4" / "scores"
            middle.mkdir(parents=True)
            (middle / "constraints.json").write_text((folder / "constraints.json").read_text())
            _kl(middle, f"{run}@4", np.full(6, 1.0))
    write_report(root, ids)
    yield root, ids, rewards


def test_rows_are_the_crossed_analysis_by_hand(report: tuple[Path, list[str], dict[str, np.ndarray]]) -> None:
    root, _, rewards = report
    summary = json.loads((root / "summary.json").read_text())
    rows = {row["label"]: row for row in summary["over_reference"]}
    assert list(rows) == ["fixed", "foodpo", "beta_head"]
    for method in ("fixed", "foodpo"):
        d = np.array([rewards[f"{method}-000{s}ab"] - rewards["reference"] for s in (0, 1)])
        by_seed, by_prompt = d.mean(axis=1), d.mean(axis=0)
        seed = PROMPTS * by_seed.var(ddof=1)
        prompt = 2 * by_prompt.var(ddof=1)
        rest = ((d - by_seed[:, None] - by_prompt + d.mean()) ** 2).sum() / (PROMPTS - 1)
        total = seed + prompt - rest
        degrees = total**2 / (seed**2 + prompt**2 / (PROMPTS - 1) + rest**2 / (PROMPTS - 1))
        if total <= seed:
            total, degrees = seed, 1.0
        error = np.sqrt(total / d.size)
        half = stats.t.ppf(0.975, degrees) * error
        row = rows[method]
        found = [row[k] for k in ("difference", "standard_error", "ci_low", "ci_high")]
        assert found == pytest.approx([d.mean(), error, d.mean() - half, d.mean() + half])
        named = (row["method"], row["metric"], row["n_seeds"], row["n_prompts"], row["covers"], row["reason"])
        assert named == (method, "constraints/gold_reward", 2, PROMPTS, "seeds and prompts", None)
    alone, row = rewards["beta_head-0000ab"] - rewards["reference"], rows["beta_head"]
    low, high = stats.t.interval(0.95, PROMPTS - 1, alone.mean(), stats.sem(alone))
    assert [row["difference"], row["ci_low"], row["ci_high"]] == pytest.approx([alone.mean(), low, high])
    assert (row["n_seeds"], row["covers"]) == (1, "prompts of one seed")


def test_the_first_screen_says_the_same_everywhere(report: tuple[Path, list[str], dict[str, np.ndarray]]) -> None:
    """Head, answer, table and instrument of page, Markdown, terminal (at most 25 lines of 80 columns) and LaTeX."""
    import jsonschema

    root = report[0]
    summary = json.loads((root / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((Path("reports") / "summary.schema.json").read_text()))
    answer = summary["verdict"]["answer"]
    assert answer == [
        "Two seeds cannot decide whether foodpo or beta_head is better than fixed: at least five are needed.",
        answer[1],
    ]
    row = summary["inference"]["rows"][0]
    span = f"{row['difference']['low']:+.3f} to {row['difference']['high']:+.3f}"
    assert (row["verdict"], row["adjusted_p"]["value"], len(row["seed_differences"])) == ("undecided", None, 2)
    console = Console(width=80, record=True, file=(root / "terminal.txt").open("w"))
    print_summary(root, console)
    lines = console.export_text().splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80
    markdown = (root / "report.md").read_text().replace("\\", "")
    page = html.unescape(re.sub("<[^>]+>", "", (root / "report.html").read_text()))
    latex = (root / "tables" / "results.tex").read_text()
    terminal = " ".join(lines).replace("..", " to ")
    for text in (markdown, page, terminal):
        assert all(sentence in text for sentence in answer) and span in text
        assert "smallest effect found in 80 %" in text and "undecided" in text
    assert r"\includegraphics[width=\linewidth]{figures/result.pdf}" in latex and "Model of inference: paired" in latex
    assert f"${row['difference']['low']:.3f}$ & ${row['difference']['high']:.3f}$" in latex
    assert (root / "figures" / "result.pdf").read_bytes().startswith(b"%PDF")


def measured(root: Path, ids: list[str], engines: dict[str, str]) -> Any:
    """What the summary says of engines, where the scores of each method name this one."""
    for name in ids:
        for path in (root / "runs" / name / "scores").glob("*.json"):
            scores = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(scores | {"engine": engines[name.split("-")[0]]}), encoding="utf-8")
    return engine_summary(load_matrix(root, ids)).measured_by.plain()


def test_without_a_reference_on_two_engines_and_with_one_run_it_says_so(tmp_path: Path) -> None:
    ids = write_matrix(tmp_path, [FIXED, FOODPO], seeds=(0,), reference=False)
    one = dict.fromkeys(("fixed", "foodpo"), "vllm 1 (float32)")
    assert measured(tmp_path, ids, one) == {"engines": {one["fixed"]: sorted(ids)}, "sentence": None}
    found = measured(tmp_path, ids, one | {"foodpo": "vllm 1 (bfloat16)"})
    assert found["engines"] == {"vllm 1 (bfloat16)": [ids[1]], "vllm 1 (float32)": [ids[0]]}
    assert "measured by 2 different engines (vllm 1 (bfloat16) 1 of them; vllm 1 (float32)" in found["sentence"]
    write_report(tmp_path, ids)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["over_reference"] == [] and len(summary["verdict"]["answer"]) == 1
    markdown, page = ((tmp_path / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert "Not shown: the reference or every trained policy lacks a score" in markdown
    assert all("measured by 2 different engines" in re.sub("<[^>]+>", "", text) for text in (markdown, page))
    alone = write_run_files(tmp_path / "runs" / ids[0])[0]
    assert (alone.over_reference, alone.verdict.answer) == ([], ["One run, compared with nothing."])


def test_a_single_run_is_compared_with_the_reference_of_its_matrix(
    report: tuple[Path, list[str], dict[str, np.ndarray]],
) -> None:
    root, ids, rewards = report
    alone = write_run_files(root / "runs" / ids[0])[0]
    (row,) = alone.over_reference
    difference = rewards[ids[0]] - rewards["reference"]
    low, high = stats.t.interval(0.95, PROMPTS - 1, difference.mean(), stats.sem(difference))
    assert [row.difference, row.ci_low, row.ci_high] == pytest.approx([difference.mean(), low, high])
    assert (row.n_seeds, row.covers) == (1, "prompts of one seed")
    assert alone.verdict.answer[0].startswith(f"One run: {row.difference:+.3f} (95 %")


def test_the_headline_figure_starts_at_a_star_on_a_root_axis(
    report: tuple[Path, list[str], dict[str, np.ndarray]],
) -> None:
    import matplotlib.pyplot as plt

    root, ids, rewards = report
    summary = json.loads((root / "summary.json").read_text())
    (panel,) = [p for p in all_panels() if p.name == "frontier_kl"]
    rows = panel.rows(load_matrix(root, ids), Summary.model_validate(summary))
    means = {(r["label"], r["step"]): r for r in rows if r["level"] == "method"}
    # Half way was measured on the first seed only: the mean of both has no such point, the one seed of beta_head has.
    assert set(means) == {("fixed", 8), ("foodpo", 8), ("beta_head", 4), ("beta_head", 8)}
    assert means["fixed", 8]["kl"] == 4.5 and means["foodpo", 8]["seeds"] == 2
    fixed = summary["over_reference"][0]
    bar = [rewards["reference"].mean() + fixed[end] for end in ("ci_low", "ci_high")]
    assert [means["fixed", 8]["low"], means["fixed", 8]["high"]] == pytest.approx(bar)
    with style():
        figure = panel.draw(rows, look := looks(["fixed", "foodpo", "beta_head"], "fixed"))
    (axes,) = figure.axes
    lines = {str(line.get_label()): line for line in axes.lines}
    star = lines["reference"]
    assert star.get_marker() == "*"
    assert np.asarray(star.get_xydata())[0] == pytest.approx([0.0, rewards["reference"].mean()])
    for label, seen in look.items():
        assert lines[label].get_color() == seen.color
        assert np.asarray(lines[label].get_xdata())[0] == 0.0
    places = axes.transData.transform([(x, 0.0) for x in (0, 1, 4, 9)])[:, 0]
    assert np.diff(places) == pytest.approx([places[1] - places[0]] * 3)
    plt.close(figure)
    with (root / "tables" / "frontier_kl.csv").open() as table:
        assert [r["level"] for r in csv.DictReader(table)].count("seed") == 5 + 3


def test_four_answers_before_and_after_are_shown_and_inert(
    report: tuple[Path, list[str], dict[str, np.ndarray]],
) -> None:
    root, _, rewards = report
    page, markdown = ((root / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    part = page[page.index('id="answers"') : page.index('id="instrument"')]
    assert "The first 4 prompts of constraints by id. After: fixed, seed 0, the baseline&#39;s lowest seed." in part
    assert part.count('class="card"') == 8 and part.index("p000") < part.index("p001") < part.index("p003")
    for row in (rewards["reference"], rewards["fixed-0000ab"]):
        assert all(f">{score:.3f}</span>" in part for score in row[:4])
    assert part.count("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert HOSTILE[0] not in part and "<img" not in part and "\u202e" not in part and "⟨U+202E⟩evil" in part
    table = markdown[markdown.index("## Before and after") : markdown.index("## The instrument")]
    assert table.count("\n|") == 6 and "<" not in table and "&lt;script&gt;alert(1)" in table


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (make test installs it for root)")
def test_the_headline_figure_fits_a_telephone_and_a_dark_screen(
    report: tuple[Path, list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    with browser(tmp_path) as tab:
        for width, dark in ((390, False), (390, True), (1200, False), (1200, True)):
            tab.size(width)
            tab.media(dark=dark)
            tab.open((report[0] / "report.html").as_uri())
            left, right = tab.js(
                "(b => [b.left, b.right])(document.querySelector('#verdict img').getBoundingClientRect())"
            )
            assert 0 <= left < right <= width and right - left > 300
            assert tab.js("document.querySelector('#verdict img').naturalWidth") > 0
            assert tab.cut() == [] and tab.low_contrast() == [] and tab.problems == []


def test_the_shipped_example_has_its_summary(
    report: tuple[Path, list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    example.copy(report[0], tmp_path / "example")
    kept = {p.name for p in (tmp_path / "example").iterdir()}
    assert kept == {"report.html", "report.md", "explain.html", "summary.json", "figures", "tables"}
    assert "inference" in json.loads((tmp_path / "example" / "summary.json").read_text())
