"""Splits of prompt files: by a column that names them, or by topic."""

from typing import Any

import pytest

from evals.preferences.splits import SHARES, SplitError, by_column, by_value

ROWS = [
    {"id": f"{topic}-{i}", "prompt": f"{topic} {i}", "topic": f"topic {topic}"} for topic in range(50) for i in range(4)
]


def test_by_value_keeps_topics_whole() -> None:
    found = by_value(ROWS, "topic", SHARES, seed=3)
    assert sorted(row["id"] for rows in found.values() for row in rows) == sorted(row["id"] for row in ROWS)
    topics = [{row["topic"] for row in rows} for rows in found.values()]
    assert sum(map(len, topics)) == len(set().union(*topics)) == 50
    assert {name: len(rows) for name, rows in found.items()} == {"train": 140, "dev": 20, "test": 40}
    again = by_value(ROWS[::-1], "topic", SHARES, seed=3)
    assert [{row["topic"] for row in rows} for rows in again.values()] == topics
    assert [{row["topic"] for row in rows} for rows in by_value(ROWS, "topic", SHARES, seed=4).values()] != topics


def test_by_column() -> None:
    rows = [{"id": "a", "split": "dev"}, {"id": "b", "split": "train"}, {"id": "c", "split": "dev"}]
    assert {k: [r["id"] for r in v] for k, v in by_column(rows).items()} == {"dev": ["a", "c"], "train": ["b"]}
    assert by_column([{"id": "a"}]) == {"train": [{"id": "a"}]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "split": "dev"}, {"id": "b"}], "'b': 'split' is None"),
        ([{"id": "a", "split": "../x"}], "'split' is '../x'"),
    ],
)
def test_by_column_refuses(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        by_column(rows)


@pytest.mark.parametrize(
    ("rows", "shares", "message"),
    [
        (ROWS, {"train": 0.5, "dev": 0.1}, "together they must be 1"),
        (ROWS, {"train": 1.5, "dev": -0.5}, "above 0"),
        (ROWS, {"a/b": 1.0}, "is called 'a/b'"),
        (ROWS[:4], SHARES, "split 'train' would be empty|would be empty"),
        ([{"id": "x"}], SHARES, "'x' has no 'topic'"),
    ],
)
def test_by_value_refuses(rows: list[dict[str, Any]], shares: dict[str, float], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        by_value(rows, "topic", shares, 0)
