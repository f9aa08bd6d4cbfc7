"""Pairs from scored samples, and rejected answers for chosen-only rows."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.constraints.text import words
from evals.preferences.pairs import Completion, PairError, PromptSamples, Scored, make_pairs
from evals.preferences.rejected import STRATEGIES, add_rejected

ROW = {
    "id": "p1",
    "prompt": "Say it.",
    "constraints": [{"kind": "no_commas"}],
    "style": "plain",
    "topic": "tea",
    "x": 1,
}


def _samples(*scored: tuple[str, float], row: dict[str, Any] = ROW) -> PromptSamples:
    return PromptSamples(
        row, [Scored(Completion(text, seed, len(text), "stop"), s) for seed, (text, s) in enumerate(scored)]
    )


def test_best_against_worst() -> None:
    cut = Scored(Completion("d", 9, 4, "length"), 0.1)
    prompt = PromptSamples(ROW, [*_samples(("a", 0.5), ("b", 1.0), ("c", 0.5)).samples, cut])
    [pair] = make_pairs([prompt])
    assert pair["chosen"] == "b" and pair["rejected"] == "d"
    assert pair["score_chosen"] == 1.0 and pair["score_rejected"] == 0.1
    assert pair["seed_chosen"] == 1 and pair["seed_rejected"] == 9
    assert pair["chosen_truncated"] is False and pair["rejected_truncated"] is True
    assert pair["group"] == "p1" and pair["how"] == "sampled_pair" and pair["rule"].startswith("gold_reward/1")
    assert pair["topic"] == "tea" and pair["constraints"] == ROW["constraints"] and "x" not in pair


def test_no_pair_without_a_gap() -> None:
    assert make_pairs([_samples(("a", 1.0), ("b", 1.0))]) == []
    assert make_pairs([_samples(("a", 1.0))]) == []
    assert make_pairs([_samples()]) == []
    assert make_pairs([_samples(("a", 1.0), ("b", 0.5))], min_gap=0.6) == []
    assert len(make_pairs([_samples(("a", 1.0), ("b", 0.5))], min_gap=0.5)) == 1


def test_blank_answers_are_left_out() -> None:
    assert make_pairs([_samples(("a", 1.0), ("  \n", 0.0))]) == []


def test_same_text_is_never_paired() -> None:
    assert make_pairs([_samples(("a", 1.0), ("a ", 0.0))]) == []


def test_more_pairs_use_no_text_twice() -> None:
    pairs = make_pairs([_samples(("a", 1.0), ("b", 0.8), ("c", 0.2), ("d", 0.0), ("e", 0.5))], pairs_per_prompt=9)
    assert [(p["chosen"], p["rejected"]) for p in pairs] == [("a", "d"), ("b", "c")]
    assert [p["id"] for p in pairs] == ["p1-0", "p1-1"]


SCORED = (("a", 0.9), ("b", 0.31), ("c", -0.2), ("d", -0.77), ("e", 0.9))


def test_all_pairs_above_the_gap() -> None:
    pairs = make_pairs([_samples(*SCORED)], pairing="all", min_gap=0.5)
    expected = {
        ("a", "b"),
        ("e", "b"),
        ("a", "c"),
        ("e", "c"),
        ("a", "d"),
        ("e", "d"),
        ("b", "c"),
        ("b", "d"),
        ("c", "d"),
    }
    assert {(p["chosen"], p["rejected"]) for p in pairs} == expected and len(pairs) == len(expected)
    assert [p["id"] for p in pairs] == [f"p1-{i}" for i in range(len(pairs))]


def test_random_pairs_above_the_gap_are_even() -> None:
    counts = Counter(
        (pair["chosen"], pair["rejected"])
        for seed in range(900)
        for pair in make_pairs([_samples(*SCORED)], pairing="random", min_gap=0.5, seed=seed)
    )
    assert sum(counts.values()) == 900 and len(counts) == 9
    # Binomial(900, 1/9): outside this range with probability below 1e-5 for each pair.
    assert all(60 < n < 145 for n in counts.values())
    assert make_pairs([_samples(*SCORED)], pairing="random", min_gap=2.0) == []


def test_ties_do_not_prefer_length() -> None:
    wins = 0
    for seed in range(400):
        [pair] = make_pairs([_samples(("short", 1.0), ("a much longer answer", 1.0), ("x", 0.0))], seed=seed)
        wins += pair["chosen"] == "short"
    # Binomial(400, 1/2): outside this range with probability below 1e-5.
    assert 155 < wins < 245


TEXTS = st.lists(st.tuples(st.text(max_size=6), st.sampled_from([0.0, 0.5, 1.0])), max_size=8)


@given(TEXTS, st.integers(0, 99), st.integers(1, 4))
def test_pair_properties(scored: list[tuple[str, float]], seed: int, m: int) -> None:
    scored = list(dict(scored).items())
    pairs = make_pairs([_samples(*scored)], seed=seed, pairs_per_prompt=m)
    assert len(pairs) <= m
    texts = [p[key].strip() for p in pairs for key in ("chosen", "rejected")]
    assert len(set(texts)) == len(texts) and all(texts)
    assert all(p["score_chosen"] > p["score_rejected"] for p in pairs)
    shuffled = random.Random(seed).sample(scored, len(scored))
    if len({t.strip() for t, _ in scored}) == len(scored):
        again = make_pairs([_samples(*shuffled)], seed=seed, pairs_per_prompt=m)
        assert [(p["chosen"], p["rejected"]) for p in again] == [(p["chosen"], p["rejected"]) for p in pairs]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs_per_prompt": 0}, "pairs_per_prompt"),
        ({"min_gap": -1.0}, "min_gap"),
        ({"pairing": "worst"}, "pairing is 'worst'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PairError, match=message):
        make_pairs([], **options)


def test_row_without_prompt() -> None:
    with pytest.raises(PairError, match="'prompt' must be a non-empty string"):
        make_pairs([_samples(("a", 1.0), row={"id": "q"})])


CHOSEN = [
    {"id": "a", "prompt": "A?", "chosen": "Tea has 3 kinds. It costs 12 euro. People drink it at 5."},
    {"id": "b", "prompt": "B?", "chosen": "- one bee\n- two bees\n\n- three bees"},
    {"id": "c", "prompt": "C?", "chosen": "今天天气很好。我们去公园。你也来吧！"},
    {"id": "d", "prompt": "D?", "chosen": "Yes"},
]


def test_strategies_are_known() -> None:
    assert tuple(sorted(STRATEGIES.available())) == ("corrupted", "other_prompt", "sampled_answer", "truncated")


@pytest.mark.parametrize("strategy", ["corrupted", "other_prompt", "truncated"])
def test_strategies_are_seeded_and_say_how(strategy: str) -> None:
    made = add_rejected(CHOSEN, strategy, seed=3)
    assert made == add_rejected(CHOSEN, strategy, seed=3)
    assert len(made.pairs) + sum(made.skipped.values()) == len(CHOSEN)
    for pair in made.pairs:
        assert pair["how"].startswith(strategy) and pair["seed_rejected"] == 3
        assert pair["rejected"].strip() != pair["chosen"].strip() and pair["rejected"].strip()
        assert pair["score_chosen"] is None


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    for strategy in ("corrupted", "truncated"):
        assert add_rejected(CHOSEN[::-1], strategy).pairs[::-1] == add_rejected(CHOSEN, strategy).pairs


def test_corruptions() -> None:
    seen: dict[str, set[str]] = {}
    for seed in range(30):
        for pair in add_rejected(CHOSEN, "corrupted", seed=seed).pairs:
            seen.setdefault(pair["group"], set()).add(pair["how"])
            way = pair["how"].split(":")[1]
            before, after = Counter(words(pair["chosen"])), Counter(words(pair["rejected"]))
            if way == "dropped_words":
                assert after < before
            else:
                assert after == before
    every = {"corrupted:shuffled_sentences", "corrupted:dropped_words", "corrupted:swapped_numbers"}
    assert seen["a"] == every and seen["b"] == seen["c"] == every - {"corrupted:swapped_numbers"}
    assert "d" not in seen


def test_truncated_is_a_proper_prefix() -> None:
    made = add_rejected(CHOSEN, "truncated")
    assert made.skipped == {"nothing_to_make": 1}
    for pair in made.pairs:
        assert pair["chosen"].startswith(pair["rejected"]) and pair["rejected_truncated"]


def test_other_prompt_names_it() -> None:
    rows = [*CHOSEN, {"id": "e", "prompt": "A?", "chosen": "Another answer to A."}]
    by_id = {row["id"]: row for row in rows}
    for pair in add_rejected(rows, "other_prompt", seed=1).pairs:
        other = by_id[pair["how"].split(":")[1]]
        assert pair["rejected"] == other["chosen"] and other["prompt"] != pair["prompt"]
    same = [{"id": str(i), "prompt": f"{i}?", "chosen": "Same."} for i in range(3)]
    assert add_rejected(same, "other_prompt").skipped == {"nothing_to_make": 3}


def test_sampled_answer() -> None:
    answers = {"A?": [Completion(CHOSEN[0]["chosen"], 1, 9), Completion("No idea.", 2, 3, "length")]}
    made = add_rejected(CHOSEN, "sampled_answer", answers=lambda texts: [answers.get(text, []) for text in texts])
    [pair] = made.pairs
    assert pair["rejected"] == "No idea." and pair["seed_rejected"] == 2 and pair["rejected_truncated"]
    assert made.skipped == {"nothing_to_make": 3}
    with pytest.raises(PairError, match="needs answers"):
        add_rejected(CHOSEN, "sampled_answer")
    with pytest.raises(PairError, match="returned 0 lists"):
        add_rejected(CHOSEN, "sampled_answer", answers=lambda texts: [])


def test_a_better_answer_is_not_rejected() -> None:
    rows = [{"id": "a", "prompt": "A?", "chosen": "well, no", "constraints": [{"kind": "no_commas"}]}]
    made = add_rejected(rows, "sampled_answer", answers=lambda texts: [[Completion("fine", 0, 1)]])
    assert made.skipped == {"scores_higher": 1}


ECHO = """\
from evals.preferences.rejected import Rejected


def echo(row, rng, context):
    return Rejected(row["chosen"] + " " if row["id"] != "b" else " ")
"""


def test_a_strategy_from_a_file_never_yields_the_chosen_answer(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(ECHO, encoding="utf-8")
    assert add_rejected(CHOSEN, f"{tmp_path / 'own.py'}:echo").skipped == {"identical": 3, "blank": 1}


def test_errors_name_the_fix() -> None:
    with pytest.raises(PairError, match="unknown strategy 'truncate'; did you mean 'truncated'"):
        add_rejected(CHOSEN, "truncate")
    with pytest.raises(PairError, match="row 'z': 'chosen' must be"):
        add_rejected([{"id": "z", "prompt": "Z?"}], "truncated")


@given(st.text(max_size=80), st.integers(0, 9))
def test_any_text_gives_a_different_answer_or_is_skipped(text: str, seed: int) -> None:
    if not text.strip():
        return
    rows = [{"id": "a", "prompt": "A?", "chosen": text}, {"id": "b", "prompt": "B?", "chosen": "Other."}]
    for strategy in ("corrupted", "other_prompt", "truncated"):
        made = add_rejected(rows, strategy, seed=seed)
        assert all(p["rejected"].strip() not in ("", p["chosen"].strip()) for p in made.pairs)
