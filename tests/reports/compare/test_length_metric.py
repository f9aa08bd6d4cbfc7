"""The length-controlled win rate as a metric of every run, and win rates of methods with seeds as units, on a matrix on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.compare.judges import LENGTH_CONTROLLED, with_length_control
from reports.files.report import write_files
from reports.runs.records import ReportError, load_matrix
from reports.statistics.preferences import length_controlled
from tests.reports.builder import FIXED, FOODPO, write_matrix

PROMPTS = 40


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[dict[str, Any]]]:
    """Two methods, two seeds, one judge that likes long answers; foodpo writes longer ones and no better."""
    root, rng = tmp_path_factory.mktemp("judged"), np.random.default_rng(4)
    ids = write_matrix(root, [FIXED, FOODPO], seeds=(0, 1, 2), prompts=PROMPTS)
    hard, rows = rng.normal(size=PROMPTS), []
    for run in ids:
        for n in range(PROMPTS):
            longer = rng.normal(60 if run.startswith("foodpo") else 0, 60)
            p = 1 / (1 + np.exp(-(0.02 * longer + hard[n])))
            said = {"judge": "j", "prompt_id": f"p{n}", "sample": 0, "group": None, "first": run, "second": "reference"}
            rows.append(
                said
                | {
                    "preference": float(rng.random() < p),
                    "length_first": 300 + longer,
                    "length_second": 300,
                    "benchmark": "b",
                }
            )
    (root / "comparisons").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "comparisons" / "b@j.jsonl").write_text(text, encoding="utf-8")
    record = {"benchmark": "b", "judge": "j", "state": "done", "judges": {}}
    (root / "comparisons" / "b@j.json").write_text(json.dumps(record), encoding="utf-8")
    for name in [*ids, "reference"]:
        values = {r["prompt_id"]: r["preference"] for r in rows if r["first"] == name}
        items = [{"id": f"p{n}", "values": {"win_rate": values.get(f"p{n}", 0.5)}} for n in range(PROMPTS)]
        metric = {"value": 0.5, "stderr": 0.1, "n": PROMPTS, "higher_is_better": True}
        content = {"benchmark": "b@j", "kind": "judge", "policy": name, "primary_metric": "win_rate", "items": items}
        folder = root / ("reference" if name == "reference" else f"runs/{name}") / "scores"
        (folder / "b@j.json").write_text(json.dumps(content | {"metrics": {"win_rate": metric}}), encoding="utf-8")
    return root, ids, rows


def test_every_run_has_the_metric_and_methods_have_intervals_over_seeds(judged: Any) -> None:
    root, ids, rows = judged
    matrix = with_length_control(load_matrix(root, ids))
    scores = {run.run_id: run.scores["b@j"] for run in matrix.runs}
    for run in ids:
        own = [r for r in rows if r["first"] == run]
        values = scores[run].values(LENGTH_CONTROLLED)
        assert len(values) == PROMPTS and scores[run].metrics[LENGTH_CONTROLLED]["value"] == pytest.approx(
            np.mean(list(values.values()))
        )
        assert set(values) == {r["prompt_id"] for r in own}
    summary = write_files(load_matrix(root, ids))
    metric = next(m for m in summary.metrics if m.name == "b@j/length_controlled")
    (row,) = [c for c in metric.comparisons if (c.label, c.against) == ("foodpo", "fixed")]
    plain = next(c for m in summary.metrics if m.name == "b@j/win_rate" for c in m.comparisons if c.label == "foodpo")
    assert len(row.seeds) == 3 and row.difference.low is not None
    assert plain.difference.value is not None and row.difference.value is not None
    assert row.difference.value < plain.difference.value - 0.03  # what length bought is gone
    arms = {arm.label: arm for arm in summary.judges[0].judges[0].against_reference}
    over = arms["foodpo"].over_seeds
    assert over is not None and over.seeds == 3 and over.value == pytest.approx(arms["foodpo"].win_rate.value)
    assert (over.high or 0) - (over.low or 0) > 0.05


def test_the_mean_is_the_fitted_rate(judged: Any) -> None:
    from reports.compare.winrates import comparison_table, difficulty_of

    root, ids, rows = judged
    scores = with_length_control(load_matrix(root, ids)).runs[0].scores["b@j"]
    own = sorted((r for r in rows if r["first"] == ids[0]), key=lambda r: r["prompt_id"])
    gamma = difficulty_of(comparison_table(rows), "reference")
    assert gamma is not None
    fit = length_controlled(
        [r["preference"] for r in own], [r["length_first"] for r in own], [300.0] * len(own),
        [gamma[r["prompt_id"]] for r in own],
    )  # fmt: skip
    assert scores.metrics[LENGTH_CONTROLLED]["value"] == pytest.approx(fit.value)


def test_few_policies_and_damaged_rows(judged: Any, tmp_path: Path) -> None:
    root, ids, _ = judged
    ids = write_matrix(tmp_path, [FIXED], seeds=(0, 1))
    (tmp_path / "comparisons").mkdir()
    assert with_length_control(load_matrix(tmp_path, ids)) == load_matrix(tmp_path, ids)
    for run in ids:
        text = (root / "reference" / "scores" / "b@j.json").read_text()
        (tmp_path / "runs" / run / "scores" / "b@j.json").write_text(text)
    (tmp_path / "comparisons" / "b@j.jsonl").write_text('{"judge": "j"}\n')
    with pytest.raises(ReportError, match=r"b@j.jsonl:1: the row has no 'prompt_id'"):
        with_length_control(load_matrix(tmp_path, ids))
