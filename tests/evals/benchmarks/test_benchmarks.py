"""Benchmarks beside the constraints: what they read, how they score, what they refuse. No model is needed here."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.benchmarks import registry
from evals.benchmarks.base import BenchmarkError, Visit
from evals.benchmarks.buckets import by_quantile, difference
from evals.benchmarks.gsm8k import Gsm8k, final_answer, marked_answer
from evals.benchmarks.kl import k1, k3
from evals.benchmarks.prompts import PromptSet
from evals.benchmarks.rows import load_prompts
from evals.benchmarks.text_statistics import distinct, is_refusal, repetition, units
from evals.estimates import estimate


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 9 * 2 = 18.\n#### 18", "18"),
        ("#### 5\nno wait\n#### $1,234.50", "1234.50"),
        ("The answer is 7.", "7"),
        ("It costs $1,000,000 in total", "1000000"),
        ("from 3 to -4", "-4"),
        ("at 3.5%", "3.5"),
        ("#### none, so 12", "12"),
        ("1,2 and 3", "3"),
        ("I do not know.", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    found = final_answer(text)
    assert (None if found is None else str(found)) == number


def test_only_a_marked_number_is_marked() -> None:
    assert marked_answer("it is 5") is None and marked_answer("#### 5.") == 5


def test_gsm8k_gold_solutions_score_one(shared_data: Path) -> None:
    path = shared_data / "benchmarks" / "gsm8k_test.jsonl"
    rows = Gsm8k().load(path, None)
    solutions = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 1319
    for row, solution in zip(rows, solutions, strict=True):
        answer = {"text": solution, "finish_reason": "stop", "token_ids": [1]}
        assert Gsm8k().values(row, answer)["marked_match"] == 1


def test_gsm8k_labels_of_real_model_answers(shared_data: Path) -> None:
    """Answers that real models gave, labelled right or wrong by the publisher, not by us."""
    path = shared_data / "preferences" / "gsm8k_correctness_pairs.jsonl"
    targets = {row["prompt"]: row for row in Gsm8k().load(shared_data / "benchmarks" / "gsm8k_test.jsonl", None)}
    right = wrong = total = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        row = targets.get(pair["prompt"])
        if row is None:
            continue
        total += 1
        values = [
            Gsm8k().values(row, {"text": pair[side], "finish_reason": "stop", "token_ids": []})["exact_match"]
            for side in ("chosen", "rejected")
        ]
        right, wrong = right + (values[0] == 1), wrong + (values[1] == 0)
    assert total > 2000
    assert right / total > 0.99 and wrong / total > 0.99, (right, wrong, total)


def test_gsm8k_refuses_answers_without_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", [{"question": "1+1?", "answer": "#### 2"}, {"question": "?", "answer": "two"}])
    with pytest.raises(BenchmarkError, match=r"g\.jsonl:2: 'answer' does not end in '#### n'"):
        Gsm8k().load(path, None)


def test_prompt_rows_of_every_shape(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "Hello?"},
        {"instruction": "Sum it up.", "input": "Long text.", "dataset": "helpful_base"},
        {"question_id": 81, "category": "writing", "turns": ["Write.", "Now rewrite."]},
    ]
    found = load_prompts(write(tmp_path / "p.jsonl", rows), None)
    assert [(row["id"], row["turns"]) for row in found] == [
        ("a", ["Hello?"]),
        ("row-2", ["Sum it up.\n\nLong text."]),
        ("81", ["Write.", "Now rewrite."]),
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], ":2: id 'a' is also on line 1"),
        ([{"text": "x"}], ":1: the row has no 'prompt' or 'instruction'"),
        ([{"turns": ["a", 3]}], ":1: 'turns' must be a list of non-empty texts"),
        ([{"prompt": "  "}], ":1: 'prompt' must be a non-empty text"),
        ([], "holds no rows"),
    ],
)
def test_bad_prompt_rows(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        load_prompts(write(tmp_path / "p.jsonl", rows), None)
    assert words in str(caught.value)


def test_text_statistics_by_hand() -> None:
    tokens = units("The cat. The cat. The cat.")
    assert tokens == ["the", "cat"] * 3
    assert distinct(tokens, 1) == pytest.approx(2 / 6) and distinct(tokens, 2) == pytest.approx(2 / 5)
    assert repetition(tokens) == pytest.approx(1 / 3)  # three 4-grams, two different ones
    assert repetition(units("a b c")) is None and distinct([], 1) is None
    assert units("我很好") == ["我", "很", "好"]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, but I cannot assist with this request.", True),
        ("As an AI language model, I don't have feelings.", True),
        ("I cannot provide medical advice.", True),
        ("抱歉，我不能回答这个问题。", True),
        ("作为一个人工智能，我无法体验情感。", True),
        ("I can help with that. Here is a list.", False),
        ("Birds cannot swim well, but penguins can.", False),
        ("I'm sorry to hear that you are ill. Rest well.", False),
        ("我能帮助你。", False),
        ("Sure. " * 60 + "I cannot help with that.", False),
    ],
)
def test_refusals(text: str, refused: bool) -> None:
    assert is_refusal(text) is refused


def test_refusals_are_rare_among_human_answers(shared_data: Path) -> None:
    lines = (shared_data / "preferences" / "oasst_zh_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["chosen"] for line in lines]
    texts = [a if isinstance(a, str) else a[-1]["content"] for a in answers]
    assert sum(map(is_refusal, texts)) / len(texts) < 0.1


def test_k1_and_k3_are_unbiased_for_the_kl() -> None:
    """Over every token of a small vocabulary, weighted by the policy, both give the exact KL."""
    policy, reference = [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]
    exact = sum(p * math.log(p / r) for p, r in zip(policy, reference, strict=True))
    for estimator in (k1, k3):
        each = [estimator([math.log(p)], [math.log(r)]) for p, r in zip(policy, reference, strict=True)]
        assert sum(p * value for p, value in zip(policy, each, strict=True)) == pytest.approx(exact)
    assert k3([-1.0, -2.0], [-1.5, -1.0]) == pytest.approx((math.exp(-0.5) - 0.5) + (math.exp(1) - 2))
    assert k1([-1.0, -2.0], [-1.5, -1.0]) == pytest.approx(-0.5)


def test_estimate_clusters_and_counts_undefined_values() -> None:
    plain = estimate([0.0, 1.0, None, 1.0], True)
    assert plain["n"] == 3 and plain["value"] == pytest.approx(2 / 3)
    assert plain["stderr"] == pytest.approx(math.sqrt((4 / 9 + 1 / 9 + 1 / 9) / 2 / 3))
    doubled = estimate([0.0, 0.0, 1.0, 1.0, 1.0, 1.0], True, ["a", "a", "b", "b", "c", "c"])
    assert doubled["stderr"] == pytest.approx(plain["stderr"]), "a pair said twice is no new evidence"
    assert estimate([None], None)["reason"] == "defined for no item"


def test_quantiles_keep_equal_numbers_together() -> None:
    items = [{"values": {"m": float(i)}, "group": None} for i in range(6)]
    found = by_quantile(items, [1.0, 1.0, 1.0, 2.0, 3.0, None], 2, {"m": True})
    assert [(entry["low"], entry["high"], entry["n"]) for entry in found] == [(1.0, 1.0, 3), (2.0, 3.0, 2)]
    assert found[0]["metrics"]["m"]["value"] == 1.0


def test_noise_is_the_difference_of_two_evaluations() -> None:
    def scores(values: list[float]) -> dict[str, Any]:
        items = [{"id": str(i), "values": {"m": value}} for i, value in enumerate(values)]
        return {"policy": "reference", "metrics": {"m": {"value": sum(values) / len(values)}}, "items": items}

    noise = difference(scores([1.0, 0.0, 0.0, 1.0]), scores([1.0, 1.0, 0.0, 1.0]))["metrics"]["m"]
    assert noise["difference"] == 0.25 and noise["changed"] == 0.25 and noise["item_difference"]["n"] == 4


def test_unknown_kind_has_a_hint() -> None:
    with pytest.raises(BenchmarkError, match="did you mean 'preference'"):
        registry.find("preferences")
    with pytest.raises(BenchmarkError, match=r"beta0 is 0; it must be above 0"):
        registry.build("preference", {"beta0": 0})


def test_turns_are_items_of_one_group(tmp_path: Path) -> None:
    rows = load_prompts(write(tmp_path / "p.jsonl", [{"id": "q", "turns": ["Write.", "Again."]}]), None)
    from tests.evals.benchmarks.scored import entry, policy_entry
    from trainers.common import scores_schema

    answer = {"finish_reason": "stop", "token_ids": [1, 2], "sample": 0}
    scores_schema.append_rows(
        scores_schema.generations_path(tmp_path, "mt"),
        [{**answer, "prompt_id": "q#turn2", "text": "a b"}, {**answer, "prompt_id": "q", "text": "a"}],
    )
    engine = SimpleNamespace(name="none is asked")
    visit = Visit(engine, policy_entry("one", tmp_path), entry("mt", "prompts"), None, lambda **_: None)
    scores = PromptSet().score(visit, rows, "cell")
    assert [(item["id"], item["group"]) for item in scores["items"]] == [("q", "q"), ("q#turn2", "q")]
    assert scores["metrics"]["response_words"]["value"] == 1.5
    assert all(metric["higher_is_better"] is None for metric in scores["metrics"].values())


def test_pairs_are_read_and_cut_as_the_trainers_do(shared_data: Path, tiny_model: Path) -> None:
    """Real pairs with histories: the same turns as `trainers.formats`, the same tokens as TRL's own tokenisation."""
    from transformers import AutoTokenizer
    from trl.trainer.dpo_trainer import _tokenize, common_prefix_length

    from evals.benchmarks.preference import Preference
    from trainers.common.chat import pair_ids
    from trainers.formats import load_source

    path = shared_data / "preferences" / "oasst_zh_pairs.jsonl"
    rows = Preference().load(path, None)
    trained = load_source(str(path)).pairs
    assert len(rows) == 1215 and sum(len(row["prompt"]) > 1 for row in rows) > 100
    for row, pair in zip(rows, trained, strict=True):
        assert (row["prompt"], row["chosen"], row["rejected"]) == (pair.prompt, pair.chosen, pair.rejected)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for row in rows[::40]:
        head = _tokenize(tokenizer, row["prompt"], add_generation_prompt=True)["input_ids"]
        full = [_tokenize(tokenizer, row["prompt"] + row[side])["input_ids"] for side in ("chosen", "rejected")]
        cut = min(common_prefix_length(head, ids) for ids in full)
        ours = pair_ids(tokenizer, row["prompt"], row["chosen"], row["rejected"])
        assert ours == (head[:cut], full[0][cut:], full[1][cut:])
