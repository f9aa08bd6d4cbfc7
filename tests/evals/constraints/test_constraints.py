"""Every checker both ways, the text rules behind them, and the constraint benchmark."""

import json
import math
import statistics
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.benchmarks.base import BenchmarkError
from evals.benchmarks.constraints import ConstraintBenchmark
from evals.constraints import (
    ConstraintError,
    check,
    describe,
    gold_reward,
    kinds,
)
from evals.constraints.text import count_phrase, sentences, words
from tests.evals.benchmarks.scored import score
from trainers.common import scores_schema

EXAMPLES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    (
        "number_sentences",
        {"relation": "exactly", "n": 2},
        [
            "One. Two.",
            "See e.g. bees. They fly 3.5 km!",
            "你好。今天好！",
            "No end here. and more",
            "- a b\n- c d",
            "Hi!  Yes?\n",
        ],
        ["One.", "A b. C d. E f.", "It costs 3.5 euro.", "...", "Dr. Smith met J. Doe."],
    ),
    ("number_sentences", {"relation": "at_most", "n": 1}, ["One", "e.g. this", "好。"], ["One. Two.", "好。好。"]),
    ("number_sentences", {"relation": "at_least", "n": 3}, ["A! B! C!", "a.\n\nb\n\nc"], ["A. B.", "1. a"]),
    (
        "number_words",
        {"relation": "at_most", "n": 3},
        ["a b c", "  don't stop-gap 3.5 ", "我爱你"],
        ["a b c d", "我爱你们"],
    ),
    ("number_words", {"relation": "at_least", "n": 3}, ["a b c", "日本語"], ["a b", "a - - - b", "3.5 1,000"]),
    ("number_paragraphs", {"n": 2}, ["a\n\nb", "a\nb\n \nc\n\n"], ["a\nb", "a\n\nb\n\nc"]),
    (
        "bullets",
        {"n": 2},
        ["- a\n- b", "Intro:\n* a\n  * b\nend", "- a\r\n- b"],
        ["- a", "-a\n-b", "- a\n- b\n- c", "• a\n• b", "**x**\n**y**"],
    ),
    ("word_frequency", {"word": "sun", "n": 2}, ["Sun, sun!", "sun sun sun"], ["sun", "sun sunny sunlight"]),
    ("required_words", {"words": ["dog"]}, ["A Dog.", "dog-like", "'dog'"], ["dogs", "hotdog", "cat"]),
    ("required_words", {"words": ["café", "因为"]}, ["Cafe\u0301 因为好", "CAFÉ，因为"], ["café", "cafe 因为"]),
    ("required_words", {"words": ["Python"]}, ["我爱Python编程"], ["Pythonic"]),
    ("forbidden_words", {"words": ["the", "and"]}, ["then sand", "no"], ["The end", "you AND me"]),
    ("no_commas", {}, ["fine.", "a; b"], ["a, b", "1,000", "好，是", "甲、乙", "نعم، لا"]),
    ("no_letter_sequence", {"sequence": "w"}, ["hello"], ["Wow", "know"]),
    ("no_letter_sequence", {"sequence": "th"}, ["hat t h"], ["The", "bath"]),
    ("contains_digit", {}, ["in 1999", "٣ books"], ["ninety", "Ⅳ items"]),
    ("no_digits", {}, ["ninety"], ["9 lives"]),
    ("lowercase", {}, ["all small, é.", "abc 123"], ["Not", "123", "你好", "ǅ small"]),
    ("uppercase", {}, ["LOUD É 1!"], ["Loud", "123", "你好", "STRAßE"]),
    ("start_with", {"text": "Well"}, ["Well, yes", "  well then", "WELL"], ["Wellness", "Oh well", '"Well"']),
    ("start_with", {"text": "In short"}, ["In short: yes"], ["In  short", "Shortly"]),
    ("end_with", {"text": "?"}, ["Really?", "ok? \n"], ["Really", "Really?!", "真的？"]),
    ("end_with", {"text": "Thank you."}, ["Bye. thank you.\n"], ["Thank you", "Thank you. Bye"]),
    ("end_with", {"text": "one"}, ["the one"], ["everyone"]),
    ("quoted", {}, ['"Yes."', " “Yes.” ", "«oui»", "「好」"], ['"Yes.', 'a "b" c', '"', "'x'"]),
    (
        "json",
        {"keys": ["a"]},
        ['{"a": 1}', ' ```json\n{"a": null}\n``` ', '```\n{"a": {"b": []}}\n```'],
        ['{"b": 1}', 'Sure: {"a": 1}', '{"a": 1} done', '["a"]', '{"a": NaN}', "{'a': 1}", '```json\n{"a": 1}'],
    ),
    ("json", {}, ['{"x": 1}'], ["1", '"a"', "null"]),
]


@pytest.mark.parametrize(("kind", "args", "passing", "failing"), EXAMPLES)
def test_checker_both_ways(kind: str, args: dict[str, Any], passing: list[str], failing: list[str]) -> None:
    constraint = {"kind": kind, "args": args}
    for text in passing:
        assert check(text, constraint), (kind, text)
    for text in failing:
        assert not check(text, constraint), (kind, text)


def test_every_kind_has_examples() -> None:
    assert {kind for kind, *_ in EXAMPLES} == set(kinds())


@pytest.mark.parametrize("empty", ["", " \n\t", "...", "?", "—", "\u200b", "{}", "😀"])
def test_empty_answer_is_never_rewarded(empty: str) -> None:
    for kind, args, *_ in EXAMPLES:
        assert not check(empty, {"kind": kind, "args": args})
    assert gold_reward(empty, [{"kind": "no_commas", "args": {}}]).score == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See e.g. Dr. Smith, i.e. the boss. Go!", 2),
        ("Pi is 3.14159. So what?", 2),
        ("It ended at 5 p.m. We left.", 2),
        ("At 5 p.m. we left.", 1),
        ("Visit example.com today.", 1),
        ('He said "stop." Then left.', 2),
        ("Wait... what?", 1),
        ("Wait... What?", 2),
        ("What?! No!", 2),
        ("1. First item\n2. Second item", 2),
        ("Title\n\nBody text", 2),
        ("a line\nthat wraps.", 1),
        ("I said no. He left.", 2),
        ("It was I. You know.", 2),
        ("他说：“好。”然后走了。", 2),
        ("¿Qué es? Es luz.", 2),
        ("Z.B. Hunde bellen. Katzen nicht.", 2),
        ("", 0),
    ],
)
def test_sentence_count(text: str, expected: int) -> None:
    assert len(sentences(text)) == expected, sentences(text)


def test_words() -> None:
    assert words("Don't re-use 3.5 or 1,000; 我爱NLP!") == ["Don't", "re-use", "3.5", "or", "1,000", "我", "爱", "NLP"]
    assert len(words("naïve Straße हिन्दी привет")) == 4
    assert words("a, b") == ["a", "b"]


def test_count_phrase() -> None:
    assert count_phrase("New York, new york; newyork", "New York") == 2
    assert count_phrase("c++ and C++", "c++") == 2


@given(st.text())
def test_text_rules_hold_for_any_text(text: str) -> None:
    assert len(sentences(text)) <= len(words(text)) + sum(c.isalnum() for c in text)
    for piece in sentences(text):
        assert piece == piece.strip() and any(c.isalnum() for c in piece)
    assert words(text) == words(unicodedata.normalize("NFC", text))


@given(st.text(), st.sampled_from(EXAMPLES))
def test_outer_white_space_never_matters(text: str, example: Any) -> None:
    constraint = {"kind": example[0], "args": example[1]}
    assert check(text, constraint) == check(f" \n{text.strip()}\n ", constraint)


@given(st.text(), st.lists(st.sampled_from(EXAMPLES), min_size=1, max_size=4))
def test_gold_reward_is_the_share_of_checks(text: str, examples: list[Any]) -> None:
    constraints = [{"kind": example[0], "args": example[1]} for example in examples]
    result = gold_reward(text, constraints)
    passed = [check(text, constraint) for constraint in constraints]
    assert [c.passed for c in result.checks] == passed
    assert result.score == sum(passed) / len(passed)
    assert result.all_satisfied == all(passed)


@given(st.text(min_size=1), st.integers(1, 20))
def test_at_least_and_at_most_are_complements(text: str, n: int) -> None:
    if not any(c.isalnum() for c in text):
        return
    for kind in ("number_words", "number_sentences"):
        at_least = check(text, {"kind": kind, "args": {"relation": "at_least", "n": n + 1}})
        at_most = check(text, {"kind": kind, "args": {"relation": "at_most", "n": n}})
        assert at_least != at_most


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"kind": "no_coma", "args": {}}, "unknown constraint kind 'no_coma'; did you mean 'no_commas'"),
        ({"kind": None}, "kind is None"),
        ({"args": {}}, "mapping with 'kind'"),
        ({"kind": "bullets"}, r"'bullets': n: it is missing; it takes: n \(an integer >= 1\)"),
        ({"kind": "bullets", "args": {"n": 0}}, r"n is 0; it must be at least 1"),
        ({"kind": "bullets", "args": {"n": True}}, "n is True; it must be a valid integer"),
        ({"kind": "bullets", "args": {"n": 1, "m": 2}}, r"m is 2; it is not known; it takes: n \("),
        ({"kind": "bullets", "n": 1}, "belong under 'args'"),
        ({"kind": "no_commas", "args": []}, "args is .*valid dictionary"),
        ({"kind": "number_words", "args": {"relation": "about", "n": 3}}, "one of at_least, at_most"),
        ({"kind": "required_words", "args": {"words": "dog"}}, "non-empty list"),
        ({"kind": "end_with", "args": {"text": "  "}}, "non-empty string"),
    ],
)
def test_malformed_constraints_say_what_is_wrong(constraint: Any, message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        gold_reward("text", [constraint])


def test_no_constraints_is_an_error() -> None:
    with pytest.raises(ConstraintError, match="at least one"):
        gold_reward("text", [])


def test_descriptions_are_distinct_and_name_their_arguments() -> None:
    texts = [describe({"kind": kind, "args": args}) for kind, args, *_ in EXAMPLES]
    assert len(set(texts)) == len({json.dumps(example[:2]) for example in EXAMPLES})
    assert describe({"kind": "number_sentences", "args": {"relation": "exactly", "n": 1}}) == (
        "Answer in exactly 1 sentence."
    )
    assert '"sun" at least 2 times' in describe({"kind": "word_frequency", "args": {"word": "sun", "n": 2}})


PROMPTS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "A?", "constraints": [{"kind": "no_commas", "args": {}}], "style": "plain"},
    {
        "id": "b",
        "prompt": "B?",
        "constraints": [{"kind": "no_commas"}, {"kind": "contains_digit"}],
        "style": "rare",
        "log_prompt_perplexity": 4.5,
    },
    {"id": "c", "prompt": "C?", "constraints": [{"kind": "contains_digit"}]},
]


def scored(folder: Path, texts: dict[str, list[str]], prompts: list[dict[str, Any]] = PROMPTS) -> dict[str, Any]:
    """The score file of these answers by prompt id."""
    rows = [{"prompt_id": i, "sample": n, "text": t} for i, ts in texts.items() for n, t in enumerate(ts)]
    scores_schema.append_rows(scores_schema.generations_path(folder, "c"), rows)
    return score(folder, prompts, "run-1", "f" * 64, "c")


def test_score_file(tmp_path: Path) -> None:
    result = scored(tmp_path, {"a": ["one two", "one, two"], "b": ["three", "a, b"], "c": ["4", "5"]})
    values = [0.5, 0.25, 1.0]
    metric = result["metrics"]["gold_reward"]
    assert metric["value"] == pytest.approx(statistics.mean(values))
    assert metric["stderr"] == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    assert metric["n"] == 3 and metric["higher_is_better"] is True
    assert [item["values"]["gold_reward"] for item in result["items"]] == values
    assert [item["values"]["all_satisfied"] for item in result["items"]] == [0.5, 0.0, 1.0]
    assert [item["values"]["response_words"] for item in result["items"]] == [2.0, 1.5, 1.0]
    assert result["primary_metric"] == "gold_reward" and result["policy"] == "run-1" and result["noise"] is None
    item = result["items"][1]
    assert item["group"] is None and item["style"] == "rare", "a style is a stratum, not a cluster"
    assert item["response"] == "three" and item["log_prompt_perplexity"] == 4.5
    assert [c["passed"] for c in item["checks"]] == [True, False]
    json.dumps(result, allow_nan=False)


def test_prompts_of_one_group_are_one_cluster(tmp_path: Path) -> None:
    rows = [{**row, "group": group, "style": "plain"} for row, group in zip(PROMPTS, ("g", "g", "h"), strict=True)]
    result = scored(tmp_path, {"a": ["one two"], "b": ["a, b"], "c": ["5"]}, rows)
    rewards = [item["values"]["gold_reward"] for item in result["items"]]
    mean = statistics.mean(rewards)
    sums = [rewards[0] + rewards[1] - 2 * mean, rewards[2] - mean]
    assert result["metrics"]["gold_reward"]["stderr"] == pytest.approx(math.sqrt(2 * sum(s * s for s in sums)) / 3)
    assert [item["group"] for item in result["items"]] == ["g", "g", "h"]


def test_score_of_one_prompt_has_no_standard_error(tmp_path: Path) -> None:
    result = scored(tmp_path, {"a": ["x"]}, PROMPTS[:1])
    assert result["metrics"]["gold_reward"] == {"value": 1.0, "stderr": None, "n": 1, "higher_is_better": True}


load = ConstraintBenchmark().load


def test_load_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS) + "\n", encoding="utf-8")
    assert load(path, None) == PROMPTS
    assert [row["id"] for row in load(path, 2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"p\.jsonl:2: not valid JSON"),
        ('{"id": "b", "prompt": NaN}', r"p\.jsonl:2: 'prompt' must be a non-empty text, got None"),
        ('{"id": "b", "prompt": "a \\ud83d"}', r"p\.jsonl:2: half of an emoji .*surrogates not allowed"),
        ("[]", r"p\.jsonl:2: expected a JSON object"),
        (json.dumps({**PROMPTS[1], "id": "a"}), r"p\.jsonl:2: id 'a' is also on line 1"),
        (json.dumps({**PROMPTS[1], "prompt": ""}), r"p\.jsonl:2: 'prompt' must be"),
        (json.dumps({**PROMPTS[1], "constraints": []}), r"p\.jsonl:2: 'constraints' is missing or empty"),
        (json.dumps({**PROMPTS[1], "constraints": [{"kind": "bulets"}]}), r"p\.jsonl:2: .*did you mean 'bullets'"),
    ],
)
def test_load_prompts_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(PROMPTS[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(BenchmarkError, match=message):
        load(path, None)


def test_load_prompts_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no such file"):
        load(tmp_path / "none.jsonl", None)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(BenchmarkError, match="holds no rows"):
        load(tmp_path / "empty.jsonl", None)
