"""contamination.json: benchmark prompts that were trained on, lm-eval's documents included, and what the report says of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.job import BenchmarkEntry
from harness.stages.report import FILE, write_contamination
from reports.compare.on_record import contamination_sentence, contamination_summary

QUESTION = "Which planet of the solar system has the largest number of known moons?"


def plan(output: Path, trained: list[str]) -> Any:
    """What `write_contamination` reads of a plan: one task of lm-eval and one benchmark that was compared before."""
    scores = output / "reference" / "scores"
    scores.mkdir(parents=True, exist_ok=True)
    items = [
        {"id": "0", "prompt": f"Question: {QUESTION}\nAnswer:"},
        {"id": "1", "prompt": "Question: How many grams are there in one kilogram of salt?\nAnswer:"},
        {"id": "2", "prompt": None},
    ]
    (scores / "quiz.json").write_text(json.dumps({"items": items}))
    mine = {"n_training": 1, "n_benchmark": 3, "exact": 0, "near": 1, "examples": [], "settings": {"threshold": 0.6}}
    return SimpleNamespace(
        output=output,
        reference_dir=output / "reference",
        data_hash="d",
        training_prompts=trained,
        benchmarks=[
            BenchmarkEntry(name="quiz", kind="lm_eval", fingerprint="q"),
            BenchmarkEntry(name="mine", kind="constraints", fingerprint="m"),
        ],
        contamination={"mine": mine},
    )


def test_a_question_inside_a_template_is_recognised(tmp_path: Path) -> None:
    write_contamination(plan(tmp_path, [QUESTION.upper(), "Name three colours of the rainbow, please, and say why."]))
    found = json.loads((tmp_path / FILE).read_text())["benchmarks"]
    assert (found["quiz"]["exact"], found["quiz"]["near"], found["quiz"]["n_benchmark"]) == (1, 0, 2)
    assert found["quiz"]["exact_ids"] == ["0"]
    assert found["mine"]["near"] == 1


def test_a_reworded_question_is_near(tmp_path: Path) -> None:
    write_contamination(plan(tmp_path, [QUESTION.replace("known moons", "moons")]))
    found = json.loads((tmp_path / FILE).read_text())["benchmarks"]["quiz"]
    assert (found["exact"], found["near"], found["near_ids"]) == (0, 1, ["0"])


def test_nothing_is_compared_twice(tmp_path: Path) -> None:
    write_contamination(plan(tmp_path, [QUESTION]))
    before = (tmp_path / FILE).stat().st_mtime_ns
    write_contamination(plan(tmp_path, [QUESTION]))
    assert (tmp_path / FILE).stat().st_mtime_ns == before


def test_the_report_names_what_is_shared(tmp_path: Path) -> None:
    matrix: Any = SimpleNamespace(output_dir=tmp_path)
    assert contamination_summary(matrix).benchmarks is None
    write_contamination(plan(tmp_path, [QUESTION]))
    said = contamination_sentence(contamination_summary(matrix))
    assert said == "shared prompts: mine 0 exact and 1 near of 3; quiz 1 exact and 0 near of 2"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(ValueError, match=FILE):
        contamination_summary(SimpleNamespace(output_dir=tmp_path))  # type: ignore[arg-type]
