"""Kinds of input that people bring: other spellings are read, what is no pair is refused by name, what is not read is said."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from trainers.common.turns import DataError, NoPreferenceError
from trainers.formats import Loaded, load_source

ASK, YES, NO = (
    {"role": r, "content": c} for r, c in (("user", "Which?"), ("assistant", "This."), ("assistant", "That."))
)
SAID = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "This."}]
OTHER = [SAID[0], {"from": "model", "value": "That."}]
PLAIN = {"prompt": "Which?", "chosen": "This.", "rejected": "That."}
SYSTEM = {"role": "system", "content": "Be brief."}


def parts(turn: dict[str, str], **part: str) -> dict[str, Any]:
    return {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}, *([part] if part else [])]}


def load(tmp_path: Path, text: str, name: str = "rows.jsonl", **options: Any) -> Loaded:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return load_source(name, tmp_path, **options)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Which?", "chosen": SAID, "rejected": OTHER},
        {"prompt": SAID[:1], "chosen": SAID[1:], "rejected": OTHER[1:]},
        {"chosen": SAID, "rejected": OTHER},
        {"prompt": [parts(ASK)], "chosen": [parts(YES)], "rejected": parts(NO)},
        {"prompt": [ASK], "chosen": [{**YES, "role": "model"}], "rejected": NO, "tools": None, "images": []},
        {"conversations": [ASK], "chosen": SAID[1], "rejected": "That."},
        {"messages": [ASK, YES], "rejected_messages": [ASK, NO]},
        {"query": "Which?", "response": "This.", "rejected_response": "That."},
        {"instruction": "Which?", "input": "", "output": ["This.", "That."]},
        {"prompt": "Which?", "chosen": "This.", "rejected": "That.", "id": float("nan"), "group": float("nan")},
        {"prompt": [ASK], "chosen": [YES], "rejected": [NO], "system": float("nan"), "history": None},
    ],
)
def test_other_spellings_are_read(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = (found := load(tmp_path, json.dumps(row))).pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ([ASK], [YES], [NO])
    assert pair.group.startswith("prompt-") and not found.notes


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Which?", "chosen": "The one.", "rejected": "The other."}, "question would not be read: rename"),
        ({"Prompt": "Which?", "chosen": "The one.", "rejected": "The other."}, "Prompt would not be read"),
        ({"context": [ASK], "chosen": "The one.", "rejected": "The other."}, "context would not be read"),
        ({**PLAIN, "prompt": [ASK], "rejected": [{**NO, "role": "user"}]}, "'rejected' begins with a turn of the user"),
        ({**PLAIN, "prompt": [ASK], "chosen": [SYSTEM, YES]}, "'chosen' begins with a turn of the system"),
        ({**PLAIN, "prompt": [ASK], "chosen": [YES, ASK]}, "'chosen' ends with a turn of the user"),
        ({**PLAIN, "prompt": [{**ASK, "role": "human"}]}, "'prompt[0]' is by 'human'; known: system"),
        ({**PLAIN, "chosen": [{**YES, "role": "critic"}]}, "'chosen[0]' is by 'critic'"),
        (
            {**PLAIN, "chosen": [{**YES, "tool_calls": [{"name": "f"}]}]},
            "'chosen[0]' has tool_calls, which is not shown",
        ),
        ({**PLAIN, "prompt": [parts(ASK, type="image_url")]}, "is of type 'image_url'; only text is trained"),
        ({**PLAIN, "images": ["a.png"]}, "column 'images' is set, but only text is trained here"),
        ({**PLAIN, "chosen": str([{"id": 1, **YES}]), "rejected": str([NO])}, "'chosen' is a printed list of messages"),
        ({**PLAIN, "prompt": json.dumps([ASK])}, "'prompt' is a printed list of messages"),
        (
            {
                "input": {"messages": [ASK], "tools": [{"type": "function"}]},
                "preferred_output": [YES],
                "non_preferred_output": [NO],
            },
            "'input.tools' would not be shown",
        ),
        ({"instruction": "Which?", "output": ["This.", "That.", "Those."]}, "'output' has 3 answers"),
        ({**PLAIN, "chosen": ["This."]}, "JSON by columns is read from files named .json"),
    ],
)
def test_what_is_no_pair_is_refused_by_name(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, json.dumps(row), without_preference="drop")
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}:1: ") and words in str(caught.value)


@pytest.mark.parametrize("missing", [float("nan"), None, ...])
@pytest.mark.parametrize("key", PLAIN)
def test_nan_null_and_a_missing_key_are_the_same(tmp_path: Path, key: str, missing: Any) -> None:
    row = {name: value for name, value in {**PLAIN, key: missing}.items() if value is not ...}
    text = json.dumps(PLAIN) + "\n" + json.dumps(row)
    with pytest.raises(NoPreferenceError, match=f":2: missing {key}.*without_preference: drop"):
        load(tmp_path, text)
    loaded = load(tmp_path, text, without_preference="drop")
    assert len(loaded.pairs) == 1 and [error.kind for error in loaded.dropped] == ["empty"]


def test_labels_and_groups_of_pandas(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Which?", "completion": c, "label": x, "group": float("nan")} for c, x in (("a", 1.0), ("b", 0.0))
    ]
    assert len(load(tmp_path, "\n".join(map(json.dumps, rows))).pairs) == 1


@pytest.mark.parametrize(
    "value",
    [
        {key: [text, text + "!"] for key, text in PLAIN.items()},
        {key: {"0": text, "7": text + "!"} for key, text in PLAIN.items()},
        {"0": PLAIN, "1": {key: text + "!" for key, text in PLAIN.items()}},
        {"columns": [*PLAIN], "index": [0, 1], "data": [[*PLAIN.values()], [f"{text}!" for text in PLAIN.values()]]},
        {"data": [PLAIN, {key: text + "!" for key, text in PLAIN.items()}], "version": "1"},
        {
            key: [[turn], [{**turn, "content": turn["content"] + "!"}]]
            for key, turn in zip(PLAIN, (ASK, YES, NO), strict=True)
        },
        [PLAIN, {key: text + "!" for key, text in PLAIN.items()}],
    ],
)
def test_json_by_columns_under_a_key_and_on_one_line(tmp_path: Path, value: Any) -> None:
    pairs = load(tmp_path, json.dumps(value), "rows.json").pairs
    assert [pair.chosen[0]["content"] for pair in pairs] == ["This.", "This.!"]
    assert pairs[1].where == f"{tmp_path / 'rows.json'}:1 (row 2)"


MESSAGE = "{'content': 'b', 'role': 'assistant'}"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "columns.json",
            '{"prompt": ["a", "b"], "chosen": ["c"]}',
            "columns of different lengths (prompt 2, chosen 1)",
        ),
        ("rows.jsonl.zst", "", ".zst files are not read; unpack it first"),
        ("rows.xlsx", "", "save the sheet as CSV"),
        ("rows.jsonl.xz", "{}", "not a whole xz file"),
        (
            "numpy.csv",
            f'prompt,chosen,rejected\na,"[{MESSAGE}\n {MESSAGE}]",d\n',
            ":2: column 'chosen' looks like messages",
        ),
        (
            "array.csv",
            f'prompt,chosen,rejected\na,"array([{MESSAGE}], dtype=object)",d\n',
            "'chosen' looks like messages",
        ),
    ],
)
def test_files_that_are_refused_by_name(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, text, name)
    assert words in str(caught.value)


def test_packed_files_and_folders_of_save_to_disk(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    (tmp_path / "rows.jsonl.xz").write_bytes(lzma.compress(json.dumps(PLAIN).encode()))
    assert len(load_source("rows.jsonl.xz", tmp_path).pairs) == 1
    rows = Dataset.from_list([PLAIN] * 3)
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"fit": rows, "rest": rows}).save_to_disk(str(tmp_path / "two"))
    for source in ("one", "two#fit", "two/fit"):
        assert len(load_source(source, tmp_path).pairs) == 3
    with pytest.raises(DataError, match="saved there: fit, rest; choose one with #SPLIT"):
        load_source("two", tmp_path)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    rows = [{**PLAIN, "question": "x", "score": 1}, {**PLAIN, "system": "a", "prompt": [SYSTEM, ASK]}]
    loaded = load(tmp_path, "\n".join(map(json.dumps, rows)))
    assert "not read: question (1 of 2 rows), system, as the conversation has its own (1 of 2 rows)" in loaded.notes[0]
    assert [turn["role"] for turn in loaded.pairs[1].prompt] == ["system", "user"]
