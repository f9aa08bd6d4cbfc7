"""Answers and log-probs that are on disk count for the policy, the settings and the engine they were made with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.benchmarks.base import Visit
from evals.benchmarks.generate import identity
from evals.benchmarks.generate import kept as kept_rows
from tests.evals.benchmarks.scored import entry, policy_entry
from trainers.common import scores_schema


def visit(engine: str = "vllm 1 (float32)", policy: str = "p", benchmark: str = "b") -> Visit:
    entries = policy_entry("run", Path(), fingerprint=policy), entry("bench", "prompts", benchmark)
    return Visit(SimpleNamespace(name=engine), *entries, None, lambda **_: None)


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ({}, True),
        ({"engine": "vllm 1 (bfloat16)"}, False),
        ({"policy": "q"}, False),
        ({"benchmark": "c"}, False),
    ],
)
def test_rows_of_another_engine_are_made_anew(tmp_path: Path, other: dict[str, Any], kept: bool) -> None:
    path = tmp_path / "rows.jsonl"
    scores_schema.append_rows(path, [{**identity(visit()), "id": "a"}])
    assert bool(kept_rows(path, visit(**other))) is kept and path.exists() is kept


def test_rows_from_before_engines_were_written_down_are_kept(tmp_path: Path) -> None:
    path, row = tmp_path / "rows.jsonl", {**identity(visit()), "id": "a"}
    del row["engine"]
    scores_schema.append_rows(path, [row])
    assert kept_rows(path, visit()) == [row]


def test_the_order_of_rows_does_not_tell_how_often_a_file_was_begun(tmp_path: Path) -> None:
    path, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    rows = [{"id": name, "logprobs": [-1.5, float("nan")]} for name in ("b0/0", "b1/0", "prompt/1", "é")]
    scores_schema.append_rows(path, rows)
    scores_schema.append_rows(other, rows[2:])
    scores_schema.append_rows(other, rows[:2])
    scores_schema.sort_rows(other, "id")
    assert other.read_bytes() == path.read_bytes()
    before = other.stat().st_ino
    scores_schema.sort_rows(other, "id")
    assert other.stat().st_ino == before, "what is in order is not written again"
