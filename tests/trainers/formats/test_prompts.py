"""Prompts alone, from the sources that preference data comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainers.common.turns import DataError
from trainers.formats.single import read_prompts

Q = "Name two rivers."


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": Q},
        {"prompt": [{"role": "user", "content": Q}], "chosen": "a", "rejected": "b", "score_chosen": 1.0},
        {"instruction": "Name two rivers.", "input": "", "output": "Rhine"},
        {"turns": [Q]},
        {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": "Rhine"}]},
        {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": "Rhine"}]},
    ],
)
def test_shapes(tmp_path: Path, row: dict[str, Any]) -> None:
    more = {"topic": "rivers", "style": "plain", "split": "dev", "constraints": [{"kind": "no_commas"}]}
    (found,) = read_prompts(str(write(tmp_path / "p.jsonl", [{**row, "id": 7, **more}]))).rows
    assert found == {"id": "7", "prompt": Q, **more}
    (unnamed,) = read_prompts(str(write(tmp_path / "p.jsonl", [row]))).rows
    assert set(unnamed) == {"id", "prompt"} and len(unnamed["id"]) == 16


def test_repeated_prompts_are_left_out(tmp_path: Path) -> None:
    found = read_prompts(str(write(tmp_path / "p.jsonl", [{"prompt": Q}, {"prompt": Q}, {"prompt": "Why?"}])))
    assert [row["prompt"] for row in found.rows] == [Q, "Why?"] and found.repeated == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": Q}], [":1: no prompt (keys: text)"]),
        ([{"prompt": "p"}, {"prompt": " "}], [":2: the prompt is empty"]),
        ([{"system": "Be brief.", "prompt": Q}], ["the turns system, user"]),
        ([{"turns": [Q, "Two more."]}], ["must be one question of the user"]),
        (
            [{"history": [["Hi", "Hi!"]], "messages": [{"role": "user", "content": Q}]}],
            ["the turns user, assistant, user"],
        ),
        ([{"turns": []}], ["the turns none"]),
        ([{"id": "a", "prompt": "p"}, {"id": "a", "prompt": "q"}], [":2: id 'a' is also that of another prompt"]),
        ([["p"]], ["expected a JSON object with prompt;", "got list"]),
        ([], ["no prompts"]),
    ],
)
def test_what_is_refused(tmp_path: Path, rows: list[Any], words: list[str]) -> None:
    path = write(tmp_path / "p.jsonl", rows)
    with pytest.raises(DataError) as error:
        read_prompts(str(path))
    assert all(word in str(error.value) for word in [str(path), *words])


def test_an_entry_of_llamafactory_needs_no_preferences(tmp_path: Path) -> None:
    write(
        tmp_path / "sft.jsonl",
        [{"q": "Name two", "more": "rivers.", "a": "Rhine"}, {"q": "Why?", "more": "", "a": "x"}],
    )
    write(tmp_path / "chat.jsonl", [{"talk": [{"who": "me", "says": Q}, {"who": "it", "says": "Rhine"}]}])
    info = {
        "sft": {"file_name": "sft.jsonl", "columns": {"prompt": "q", "query": "more", "response": "a"}},
        "first": {"file_name": "sft.jsonl", "columns": {"prompt": "q", "query": "more"}, "num_samples": 1},
        "chat": {
            "file_name": "chat.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "talk"},
            "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "it"},
        },
    }
    place = tmp_path / "dataset_info.json"
    place.write_text(json.dumps(info), encoding="utf-8")
    assert [row["prompt"] for row in read_prompts(f"{place}#sft").rows] == ["Name two\nrivers.", "Why?"]
    assert len(read_prompts(f"{place}#first").rows) == 1
    assert [row["prompt"] for row in read_prompts(f"{place}#chat").rows] == [Q]
    with pytest.raises(DataError, match="no data set 'sf'; did you mean 'sft'"):
        read_prompts(f"{place}#sf")


def test_a_folder_as_on_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "test.jsonl", [{"prompt": Q, "topic": "rivers"}])
    assert read_prompts(f"{folder}#test").rows[0]["topic"] == "rivers"
