"""Training prompts found again among benchmark prompts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.contamination import contamination, normal, overlap, shingles

LONG = "Write a short story about a lighthouse keeper who finds a letter in a bottle and answers it the same night"


def jaccard(first: frozenset[Any], second: frozenset[Any]) -> float:
    return len(first & second) / len(first | second)


def test_exact_duplicates_ignore_case_and_punctuation() -> None:
    found = overlap(["What is 2 + 2?", "Name a river."], [("a", "what is 2 + 2"), ("b", "Name a mountain.")])
    assert (found["exact"], found["near"], found["exact_ids"]) == (1, 0, ["a"])
    assert found["examples"][0] == {
        "id": "a", "prompt": "what is 2 + 2", "training": "What is 2 + 2?", "similarity": 1.0,
    }  # fmt: skip


def test_near_duplicates_are_found_and_measured() -> None:
    changed = LONG.replace("short", "long")
    value = jaccard(shingles(normal(LONG), 3), shingles(normal(changed), 3))
    found = overlap([changed, "Something else entirely, about tea."], [("x", LONG)], threshold=0.6)
    assert found["near"] == 1 and found["exact"] == 0
    assert found["examples"][0]["similarity"] == pytest.approx(value, abs=1e-4)
    assert overlap([changed], [("x", LONG)], threshold=0.95)["near"] == 0


def test_chinese_prompts() -> None:
    found = overlap(
        ["请写一首关于春天和江南水乡的诗"], [("a", "请写一首关于春天和江南水乡的诗！"), ("b", "请介绍一下你自己")]
    )
    assert found["exact_ids"] == ["a"] and found["near"] == 0


def test_the_index_finds_what_an_exhaustive_search_finds() -> None:
    random = np.random.default_rng(3)
    vocabulary = [f"w{i}" for i in range(400)]
    training = [" ".join(random.choice(vocabulary, 30)) for _ in range(300)]
    asked = []
    for i in range(100):  # copies with some words changed
        parts = training[i].split()
        for place in random.choice(30, int(i % 5), replace=False):
            parts[int(place)] = "other"
        asked.append((str(i), " ".join(parts)))
    found = overlap(training, asked, threshold=0.6, n=3)
    grams = [shingles(normal(text), 3) for text in training]
    expected = {name for name, text in asked if max(jaccard(shingles(normal(text), 3), g) for g in grams) >= 0.6}
    assert {*found["exact_ids"], *found["near_ids"]} == expected and len(expected) > 60


def test_empty_prompts_match_nothing() -> None:
    assert overlap(["", "..."], [("a", "!"), ("b", "")])["exact"] == 0


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="threshold 0"):
        overlap([], [], threshold=0)


def test_gsm8k_pairs_come_from_the_gsm8k_test_set(shared_data: Path) -> None:
    """The published pairs answer questions of the test set: training on them contaminates it, and the check says so."""

    def rows(name: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (shared_data / name).read_text(encoding="utf-8").splitlines()]

    trained = [row["prompt"] for row in rows("preferences/gsm8k_correctness_pairs.jsonl")]
    asked = [(str(i), row["question"]) for i, row in enumerate(rows("benchmarks/gsm8k_test.jsonl"))]
    other = [(str(i), row["prompt"]) for i, row in enumerate(rows("benchmarks/ifeval.jsonl"))]
    found = contamination(trained, {"gsm8k": asked, "ifeval": other})
    assert found["gsm8k"]["exact"] == 731 and found["ifeval"]["exact"] == 0
    assert found["gsm8k"]["n_training"] == 731
