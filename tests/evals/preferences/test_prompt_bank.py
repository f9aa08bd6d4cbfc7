"""The prompt bank: determinism, disjoint splits, constraints that can be obeyed together."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.constraints import describe, resolve
from evals.preferences.prompt_bank import (
    _FAMILIES,
    _WEIGHTS,
    STYLES,
    _phrasings,
    _split_topics,
    _topics,
    generate_prompts,
)

TRAIN = generate_prompts("train", 1600, 0)
HELDOUT = generate_prompts("heldout", 450, 0)


def test_rows() -> None:
    for row in TRAIN + HELDOUT:
        assert set(row) == {"id", "prompt", "constraints", "style", "topic", "group"}
        assert 1 <= len(row["constraints"]) <= 2
        for constraint in row["constraints"]:
            resolve(constraint)
            if row["style"] != "other_language":
                assert describe(constraint) in row["prompt"]
        assert "{" not in row["prompt"]
    assert len({row["id"] for row in TRAIN + HELDOUT}) == 2050
    assert len({row["prompt"] for row in TRAIN + HELDOUT}) == 2050


def test_splits_share_neither_topic_nor_prompt() -> None:
    train, heldout = ({topic["en"] for topic in _split_topics(split)} for split in ("train", "heldout"))
    assert not train & heldout
    assert {row["topic"] for row in TRAIN} == train and {row["topic"] for row in HELDOUT} == heldout
    other_seed = generate_prompts("heldout", 450, 7)
    assert not {row["prompt"] for row in TRAIN} & {row["prompt"] for row in HELDOUT + other_seed}


def test_styles_and_constraints_are_spread() -> None:
    styles = Counter(row["style"] for row in HELDOUT)
    assert set(styles) == set(STYLES) and max(styles.values()) - min(styles.values()) <= 10
    assert {c["kind"] for row in TRAIN for c in row["constraints"]} == set(_WEIGHTS)
    hard = {"bullets", "lowercase", "uppercase", "start_with", "quoted", "json"}
    share = sum(c["kind"] in hard for row in TRAIN for c in row["constraints"]) / len(TRAIN)
    assert 0.02 < share < 0.2


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(0, 60), st.sampled_from(["train", "heldout"]))
def test_seed_decides_and_fewer_is_a_prefix(seed: int, n: int, split: str) -> None:
    rows = generate_prompts(split, 60, seed)
    assert generate_prompts(split, n, seed) == rows[:n]
    assert generate_prompts(split, 60, seed + 1) != rows


def test_constraints_of_a_prompt_do_not_contradict_each_other() -> None:
    for row in TRAIN + HELDOUT:
        if len(row["constraints"]) < 2:
            continue
        first, second = row["constraints"]
        assert not _FAMILIES[first["kind"]] & _FAMILIES[second["kind"]]
        for avoid, other in ((first, second), (second, first)):
            if avoid["kind"] == "no_letter_sequence":
                assert avoid["args"]["sequence"] not in str(list(other["args"].values())).casefold(), row


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list) else [value]


def test_data_files() -> None:
    assert len(_topics()) >= 120 and len({topic["en"] for topic in _topics()}) == len(_topics())
    for topic in _topics():
        assert set(topic) == {"en", "es", "de", "fr", "zh", "words"} and len(topic["words"]) == 4
    # YAML reads a bare yes, no, on or off as a truth value.
    assert all(isinstance(leaf, str) and leaf for leaf in _leaves([list(_topics()), _phrasings()]))


def test_errors() -> None:
    unknown = "unknown split 'test'; use one of train, heldout"
    for split, n, words in (("test", 1, unknown), ("train", -1, "n must be >= 0"), ("test", 0, unknown)):
        with pytest.raises(ValueError, match=words):
            generate_prompts(split, n, 0)
