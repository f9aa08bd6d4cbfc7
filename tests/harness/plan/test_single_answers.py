"""Answers without a counterpart: what the message about them advises works on the very rows it is said of."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.harness.conftest import write_jsonl
from trainers.common.turns import DataError
from trainers.formats import load_source
from trainers.formats.single import read_answers

ANSWER = "尼罗河很长。The Rhine is 1,233 km long. It flows north."
QUESTION = "Name two rivers."
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": QUESTION},
]
ANSWERED = {"role": "assistant", "content": ANSWER}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": QUESTION, "chosen": ANSWER},
        {"prompt": QUESTION, "completion": ANSWER},
        {"prompt": QUESTION, "completion": ANSWER, "label": True},
        {"prompt": [{"role": "user", "content": QUESTION}], "chosen": [ANSWERED]},
        {"instruction": "Name two", "input": "rivers.", "output": ANSWER},
        {"prompt": "a template", "instruction": "Name two", "input": "rivers.", "output": ANSWER},
        {"messages": [{"role": "user", "content": QUESTION}, ANSWERED]},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]},
    ],
    ids=lambda row: "-".join(row),
)
def test_shapes(tmp_path: Path, row: dict[str, Any]) -> None:
    (found,) = read_answers(write_jsonl(tmp_path / "rows.jsonl", [row])).rows
    assert found["prompt"].split() == QUESTION.split() and found["chosen"] == ANSWER
    assert [turn["role"] for turn in found["turns"]] == ["user"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": TALK, "chosen": ANSWER},
        {"messages": [*TALK, ANSWERED]},
        {"system": "Be brief.", "messages": [*TALK[1:], ANSWERED]},
        {"system": "Be brief.", "history": [["Hello.", "Hello!"]], "prompt": QUESTION, "completion": ANSWER},
        {"system": "Be brief.", "history": [["Hello.", "Hello!"]], "instruction": QUESTION, "output": ANSWER},
    ],
    ids=lambda row: "-".join(row),
)
def test_conversations_stay_whole(tmp_path: Path, row: dict[str, Any], cli: Any) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    assert read_answers(path).rows[0]["turns"] == TALK
    made = tmp_path / "made.jsonl"
    done = cli("build-preferences", "--chosen-only", path, "--strategy", "corrupted", "--out", made)
    assert done.returncode == 0 and done.stdout.startswith("1 pairs in "), done.stderr
    (pair,) = load_source(str(made)).pairs
    assert pair.prompt == TALK and pair.chosen == [ANSWERED] and pair.rejected != pair.chosen


def test_undesirable_and_repeated_answers_are_passed_over(tmp_path: Path) -> None:
    row = {"prompt": QUESTION, "completion": ANSWER, "label": True}
    found = read_answers(write_jsonl(tmp_path / "rows.jsonl", [row, row, {**row, "completion": "No.", "label": False}]))
    assert len(found.rows) == 1 and found.undesirable == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1], "expected a JSON object"),
        ({"text": "a"}, "no single answer (keys: text)"),
        ({"prompt": "a", "chosen": " "}, "the answer is empty"),
        ({"prompt": "", "chosen": "b"}, "the prompt is empty"),
        ({"prompt": "a", "completion": "b", "label": "perhaps"}, "'label' is 'perhaps'"),
        ({"messages": TALK}, "must end with an assistant's turn"),
        ({"prompt": "a", "chosen": [*TALK]}, "must be one turn of the assistant"),
        ({"id": "x", "prompt": "c", "chosen": "d"}, "id 'x' was used on line 1"),
    ],
)
def test_mistakes(tmp_path: Path, row: Any, words: str) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"id": "x", "prompt": "a", "chosen": "b"}, row])
    with pytest.raises(DataError) as caught:
        read_answers(path)
    assert str(caught.value).startswith(f"{path}:2: ") and words in str(caught.value)


@pytest.mark.parametrize(
    "row", [{"prompt": QUESTION, "completion": ANSWER, "label": True}, {"prompt": "a", "completion": ANSWER}]
)
def test_the_advice_can_be_followed(tmp_path: Path, row: dict[str, Any], cli: Any) -> None:
    path, made = write_jsonl(tmp_path / "rows.jsonl", [row]), tmp_path / "made.jsonl"
    with pytest.raises(DataError) as caught:
        load_source(str(path))
    advised = re.search(r"python -m harness (.+?PAIRS\.jsonl)", str(caught.value))
    assert advised is not None
    names = {"FILE": str(path), "PAIRS.jsonl": str(made)}
    done = cli(*(names.get(word, word) for word in shlex.split(advised.group(1))))
    assert done.returncode == 0, done.stderr
    (pair,) = load_source(str(made)).pairs
    assert pair.chosen == [ANSWERED] and pair.rejected != pair.chosen


def test_a_conversation_is_not_sampled_as_a_question(tmp_path: Path, cli: Any) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"messages": [*TALK, ANSWERED]}])
    done = cli(
        "build-preferences", "--chosen-only", path, "--strategy", "sampled_answer", "--out", tmp_path / "x.jsonl"
    )
    assert done.returncode == 2 and "is a conversation; take corrupted" in done.stderr
