"""Preference data in every format people bring: written, read back, detected, refused with file and line, mixed and split."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from trl.data_utils import extract_prompt

from trainers.common import DataError, NoPreferenceError, Row
from trainers.formats import (
    FORMATS,
    Format,
    Part,
    PreferencePair,
    load_mixture,
    load_pairs,
    load_source,
    split_by_prompt,
    to_jsonl,
)
from trainers.formats.load import check_rows

ROOT = Path(__file__).resolve().parents[3]
Rows = list[dict[str, Any]]
Turns = list[dict[str, str]]

# --- comparisons, and each format's way to write them


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


#: Text of many scripts without what the formats themselves use as marks; stripped, as dialogues cannot keep outer space.
TEXT = (
    st.text(
        alphabet=st.one_of(
            st.sampled_from("abc XYZ.,\n\"'\\\t;|1[{"),
            st.sampled_from("中文回答，。你好吗ひらカナ한국어हिन्दीไทย"),
            st.sampled_from("مرحبا שלום Привет Ελλά é ñ 😀👩\u200d🚀"),
            st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")),
        ),
        min_size=1,
        max_size=30,
    )
    .map(str.strip)
    .filter(lambda text: text and "Human:" not in text and "Assistant:" not in text)
)


@st.composite
def comparisons(draw: st.DrawFn, system: bool = True, rounds: int = 2) -> tuple[Turns, str, str]:
    """(prompt, chosen, rejected): a conversation that ends with a question, and two different answers to it."""
    prompt = [turn("system", draw(TEXT))] if system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, rounds - 1))):
        prompt += [turn("user", draw(TEXT)), turn("assistant", draw(TEXT))]
    prompt.append(turn("user", draw(TEXT)))
    chosen = draw(TEXT)
    rejected = draw(TEXT.filter(lambda text: text != chosen))
    return prompt, chosen, rejected


def answer(text: str) -> Turns:
    return [turn("assistant", text)]


def _parts(prompt: Turns) -> tuple[str | None, list[list[str]], str]:
    """(system, history, question) of a prompt."""
    system = prompt[0]["content"] if prompt[0]["role"] == "system" else None
    spoken = [one["content"] for one in prompt if one["role"] != "system"]
    return system, [[spoken[i], spoken[i + 1]] for i in range(0, len(spoken) - 1, 2)], spoken[-1]


def trl_standard(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    system, history, question = _parts(prompt)
    row: dict[str, Any] = {"prompt": question, "chosen": chosen, "rejected": rejected}
    return row | ({"system": system} if system else {}) | ({"history": history} if history else {})


def trl_conversational(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": answer(chosen), "rejected": answer(rejected)}


def trl_conversational_implicit(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    return {"chosen": prompt + answer(chosen), "rejected": prompt + answer(rejected)}


def ultrafeedback_binarized(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": _parts(prompt)[2], **trl_conversational_implicit(prompt, chosen, rejected), "score_chosen": 8.0}


def ultrafeedback(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    scored = [(rejected, 2.0), (chosen, 9.5), ("in between", 5.0)]
    completions = [{"response": text, "overall_score": score, "model": "m"} for text, score in scored]
    return {"instruction": prompt[-1]["content"], "completions": completions}


def hh_rlhf(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    names = {"user": "Human", "assistant": "Assistant"}
    start = "".join(f"\n\n{names[one['role']]}: {one['content']}" for one in prompt)
    return {"chosen": f"{start}\n\nAssistant: {chosen}", "rejected": f"{start}\n\nAssistant: {rejected}"}


def sharegpt(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    said = [{"from": names[one["role"]], "value": one["content"]} for one in prompt]
    answers = {"chosen": {"from": "gpt", "value": chosen}, "rejected": {"from": "gpt", "value": rejected}}
    return {"conversations": said, **answers}


def messages_ranking(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    return {"messages": prompt, "chosen": answer(chosen)[0], "rejected": answer(rejected)[0]}


def alpaca(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    system, history, question = _parts(prompt)
    return {
        "instruction": question,
        "input": "",
        "system": system or "",
        "history": history,
        "chosen": chosen,
        "rejected": rejected,
    }


Write = Callable[[Turns, str, str], dict[str, Any]]


#: Format -> how to write a row, and whether it has system texts and several rounds.
def openai(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    asked = {"messages": prompt, "tools": [], "parallel_tool_calls": True}
    return {"input": asked, "preferred_output": answer(chosen), "non_preferred_output": answer(rejected)}


def swift(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    return {"messages": prompt + answer(chosen), "rejected_response": rejected}


def v1(prompt: Turns, chosen: str, rejected: str) -> dict[str, Any]:
    def parts(turns: Turns) -> list[dict[str, Any]]:
        return [{**one, "content": [{"type": "text", "value": one["content"]}], "loss_weight": 1.0} for one in turns]

    return {"chosen_messages": parts(prompt + answer(chosen)), "rejected_messages": parts(prompt + answer(rejected))}


WRITERS: dict[str, tuple[Write, bool, int]] = {
    "trl-standard": (trl_standard, True, 2),
    "trl-conversational": (trl_conversational, True, 2),
    "trl-conversational-implicit": (trl_conversational_implicit, True, 2),
    "ultrafeedback-binarized": (ultrafeedback_binarized, True, 2),
    "ultrafeedback": (ultrafeedback, False, 1),
    "hh-rlhf": (hh_rlhf, False, 2),
    "sharegpt-ranking": (sharegpt, True, 2),
    "messages-ranking": (messages_ranking, True, 2),
    "alpaca-ranking": (alpaca, True, 2),
    "openai-preference": (openai, True, 2),
    "ms-swift": (swift, True, 2),
    "llamafactory-v1": (v1, True, 2),
}


def write_jsonl(path: Path, rows: Rows) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def write_csv(path: Path, rows: Rows, delimiter: str = ",") -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, keys, delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        cells = {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
        writer.writerow(cells)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def write_parquet(path: Path, rows: Rows) -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    parquet.write_table(pa.table({key: [row.get(key) for row in rows] for key in keys}), path)


FILES: dict[str, Callable[[Path, Rows], Any]] = {
    ".jsonl": write_jsonl,
    ".json": lambda path, rows: path.write_text(json.dumps(rows, indent=2), encoding="utf-8"),
    ".jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode())),
    ".csv": write_csv,
    ".tsv": lambda path, rows: write_csv(path, rows, "\t"),
    ".parquet": write_parquet,
}


def content(pairs: list[PreferencePair]) -> list[tuple[Turns, Turns, Turns]]:
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_is_written_in_a_format_is_read_back(name: str, data: st.DataObject) -> None:
    write, system, rounds = WRITERS[name]
    wanted = data.draw(st.lists(comparisons(system=system, rounds=rounds), min_size=1, max_size=4))
    asked = [(prompt, answer(chosen), answer(rejected)) for prompt, chosen, rejected in wanted]
    for ending in FILES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"pairs{ending}"
            FILES[ending](path, [write(*one) for one in wanted])
            loaded = load_source(str(path))
        assert loaded.formats == [name] and content(loaded.pairs) == asked, ending
        assert len({pair.id for pair in loaded.pairs}) == len(wanted)


@settings(max_examples=40, deadline=None)
@given(st.lists(comparisons(), min_size=1, max_size=5))
def test_the_same_pairs_have_the_same_ids_in_every_format(wanted: list[tuple[Turns, str, str]]) -> None:
    ids = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("trl-conversational", "sharegpt-ranking", "alpaca-ranking", "messages-ranking"):
            path = Path(folder) / f"{name}.jsonl"
            write_jsonl(path, [WRITERS[name][0](*one) for one in wanted])
            ids.append([(pair.id, pair.group) for pair in load_source(str(path)).pairs])
        reverse = Path(folder) / "reverse.jsonl"
        write_jsonl(reverse, [trl_conversational(*one) for one in reversed(wanted)])
        backwards = load_source(str(reverse)).pairs
    assert all(one == ids[0] for one in ids)
    assert sorted(pair.id for pair in backwards) == sorted(name for name, _ in ids[0])


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_an_implicit_prompt_of_texts_is_cut_as_trl_cuts_it(start: str, one: str, other: str) -> None:
    row = {"chosen": start + "\n" + one + " x", "rejected": start + "\n" + other + " y"}
    if row["chosen"].startswith("Human:"):
        return
    theirs = extract_prompt(row)
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(Path(folder) / "p.jsonl", [row])
        loaded = load_source("p.jsonl", Path(folder))
    assert loaded.formats == ["trl-standard-implicit"]
    assert content(loaded.pairs) == [
        ([turn("user", theirs["prompt"])], answer(theirs["chosen"]), answer(theirs["rejected"]))
    ]


def test_pairs_written_for_the_workers_are_read_back_whole(tmp_path: Path) -> None:
    rows = [{"id": "a", "group": 7, "prompt": "几点？", "chosen": "三点", "rejected": "四点", "beta": 0.25}]
    write_jsonl(tmp_path / "in.jsonl", [*rows, {"prompt": "几点？", "chosen": "\u2028", "rejected": "x"}][:1])
    pairs = load_source("in.jsonl", tmp_path).pairs
    (tmp_path / "out.jsonl").write_text(to_jsonl(pairs), encoding="utf-8")
    for again in (load_pairs(tmp_path / "out.jsonl"), load_source("out.jsonl", tmp_path).pairs):
        assert [(*pair.content(), pair.group) for pair in again] == [(*pair.content(), pair.group) for pair in pairs]
    assert (pairs[0].id, pairs[0].group, pairs[0].beta, pairs[0].line) == ("a", "7", 0.25, 1)


# --- single formats


def load_rows(tmp_path: Path, rows: Rows, **options: Any) -> list[PreferencePair]:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return load_source("rows.jsonl", tmp_path, **options).pairs


def refused(tmp_path: Path, rows: Rows) -> str:
    with pytest.raises(DataError) as caught:
        load_rows(tmp_path, rows)
    return str(caught.value)


def test_hh_dialogues_that_part_earlier_keep_the_rest_in_the_answers(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: "
    rows = [{"chosen": start + "A\n\nAssistant: 1", "rejected": start + "B\n\nAssistant: 2"}]
    pair = load_rows(tmp_path, rows)[0]
    assert pair.prompt == [turn("user", "Hi")]
    assert pair.chosen == [turn("assistant", "Hello."), turn("user", "A"), turn("assistant", "1")]


def test_the_score_of_a_completion(tmp_path: Path) -> None:
    def rated(*ratings: str) -> dict[str, Any]:
        return {"annotations": {str(i): {"Rating": rating} for i, rating in enumerate(ratings)}}

    completions = [
        {"response": "low", **rated("1", "N/A")},
        {"response": "high", **rated("5", "4")},
        {"response": "middle", "overall_score": 3},
    ]
    pair = load_rows(tmp_path, [{"instruction": "q", "completions": completions}])[0]
    assert (pair.chosen, pair.rejected) == (answer("high"), answer("low"))
    unrated = {"response": "a", **rated("N/A")}
    loaded = load_source(
        str(write_jsonl(tmp_path / "some.jsonl", [{"instruction": "q", "completions": [*completions, unrated]}]))
    )
    assert loaded.pairs[0].chosen == answer("high") and "completions without a response or a score" in loaded.notes[0]
    message = refused(tmp_path, [{"instruction": "q", "completions": [unrated, completions[0]]}])
    assert "rows.jsonl:1: 1 of 2 completions have a response and a score" in message and "drop" in message


TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
LABELLED: dict[str, tuple[Callable[[str, str, bool], dict[str, Any]], dict[str, Any]]] = {
    "rows.jsonl": (lambda p, c, label: {"prompt": p, "completion": c, "label": label}, {}),
    "dataset_info.json#mine": (
        lambda p, c, label: {"ask": p, "say": c, "tag": label},
        {"columns": {"prompt": "ask", "response": "say", "kto_tag": "tag"}},
    ),
    ".#mine": (
        lambda p, c, label: {"m": [turn("user", p), turn("assistant", c)], "tag": label},
        {"formatting": "sharegpt", "columns": {"messages": "m", "kto_tag": "tag"}, "tags": TAGS},
    ),
}


@pytest.mark.parametrize("source", LABELLED)
def test_labelled_answers_are_paired_within_their_prompt(tmp_path: Path, source: str) -> None:
    labelled = [("p", "good", True), ("q", "是", True), ("p", "bad", False), ("p", "worse", False), ("q", "不", False)]
    row, entry = LABELLED[source]
    pairs = entry_of(tmp_path, {"file_name": "rows.jsonl", **entry}, [row(*one) for one in labelled], source).pairs
    found = {(p.prompt[0]["content"], p.chosen[0]["content"], p.rejected[0]["content"]) for p in pairs}
    assert found == {("p", "good", "bad"), ("p", "good", "worse"), ("q", "是", "不")} and len(pairs) == 3
    assert len({pair.group for pair in pairs}) == 2


def test_answers_without_a_counterpart(tmp_path: Path) -> None:
    both = [{"prompt": "p", "completion": c, "label": label} for c, label in (("a", True), ("b", False))]
    alone = {"prompt": "q", "completion": "c", "label": True}
    message = refused(tmp_path, [*both, alone])
    assert "rows.jsonl:3:" in message and "python -m harness build-preferences --chosen-only" in message
    loaded = load_source("rows.jsonl", tmp_path, without_preference="drop")
    assert len(loaded.pairs) == 1 and [error.kind for error in loaded.dropped] == ["one_answer"]
    for key in ("completion", "chosen"):
        assert "build-preferences --chosen-only" in refused(tmp_path, [{"prompt": "p", key: "c"}])
    contradiction = [{"prompt": "p", "completion": "a", "label": label} for label in (True, False)]
    assert "undesirable on line 2" in refused(tmp_path, contradiction)


def test_a_ranking_of_one_answer_prefers_nothing(tmp_path: Path) -> None:
    rows = [{"instruction": "i", "output": answers} for answers in (["good", "bad"], ["good"], [])]
    loaded = load_source(str(write_jsonl(tmp_path / "r.jsonl", rows)), without_preference="drop")
    assert len(loaded.pairs) == 1 and [error.kind for error in loaded.dropped] == ["one_answer"] * 2
    with pytest.raises(
        DataError, match=r"r\.jsonl:2: 'output' has 1 of the two answers of a ranking; remove the row, or set"
    ):
        load_source(str(tmp_path / "r.jsonl"))


def test_labels_and_numbers_in_csv(tmp_path: Path) -> None:
    (tmp_path / "kto.csv").write_text("prompt,completion,label\np,a,True\np,b,0\n", encoding="utf-8")
    assert content(load_source("kto.csv", tmp_path).pairs) == [([turn("user", "p")], answer("a"), answer("b"))]
    (tmp_path / "b.csv").write_text("prompt,chosen,rejected,beta,id\np,a,b,0.5,\nq,a,b,,x\n", encoding="utf-8")
    pairs = load_source("b.csv", tmp_path).pairs
    assert [pair.beta for pair in pairs] == [0.5, None] and pairs[1].id == "x"


def test_messages_as_pandas_writes_them(tmp_path: Path) -> None:
    row = trl_conversational([turn("user", '它\'s "q"')], "a", "b")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(row)
    writer.writerow(map(repr, row.values()))
    (tmp_path / "p.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    assert content(load_source("p.csv", tmp_path).pairs) == [(row["prompt"], row["chosen"], row["rejected"])]


def test_every_format_is_in_these_tests() -> None:
    assert {form.name for form in FORMATS} == {*WRITERS, "kto", "trl-standard-implicit"}


# --- mistakes

GOOD = {"prompt": "p", "chosen": "c", "rejected": "r"}
BAD_ROWS = [
    ({"prompt": "p", "chosen": "c"}, "missing rejected"),
    ({**GOOD, "chosen": "r"}, "identical"),
    ({**GOOD, "chosen": "  "}, "'chosen' is empty"),
    ({**GOOD, "prompt": ""}, "'prompt' is empty"),
    ({**GOOD, "prompt": 5}, "'prompt' must be a text"),
    ({**GOOD, "rejected": [{"role": "assistant"}]}, "'rejected[0]' has no content"),
    ({**GOOD, "rejected": [{"content": "x"}]}, "'rejected[0]' has no role"),
    ({**GOOD, "rejected": []}, "an empty list"),
    ({**GOOD, "history": ["x"]}, "'history' must be a list of [question, answer] pairs"),
    ({**GOOD, "system": 3}, "'system' must be a text"),
    ({**GOOD, "beta": "much"}, "'beta' is 'much'"),
    ({**GOOD, "beta": -1}, "'beta' is -1"),
    ({**GOOD, "beta": float("inf")}, "'beta' is inf"),
    ({**GOOD, "beta": True}, "'beta' is True"),
    ({**GOOD, "id": "first"}, "was used on line 1"),
]


@pytest.mark.parametrize(("row", "words"), BAD_ROWS)
def test_bad_rows_name_file_and_line(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    message = refused(tmp_path, [{**GOOD, "id": "first"}, {**GOOD, "prompt": "другой"}, row])
    assert message.startswith(f"{tmp_path / 'rows.jsonl'}:3: ") and words in message and "\n" not in message


TALK = sharegpt([turn("user", "q")], "a", "b")
SAID = {"from": "human", "value": "q"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (TALK | {"conversations": [SAID, SAID]}, "two turns of one side in a row"),
        (TALK | {"conversations": [SAID | {"from": "teacher"}]}, "is by 'teacher'; known: human, gpt"),
        (TALK | {"conversations": [SAID, {"from": "gpt", "value": "a"}]}, "must end with the question"),
        (TALK | {"chosen": SAID}, "'chosen' begins with a turn of the user"),
        (TALK | {"rejected": None}, "missing rejected"),
        ({"text": "a", "label": 1}, "no known format: keys: text, label: hh-rlhf"),
        ([1], "expected a JSON object"),
        ({"chosen": answer("a"), "rejected": answer("b")}, "share no prompt"),
        ({"chosen": "a", "rejected": "b"}, "no common prefix"),
        (
            ultrafeedback_binarized([turn("user", "q")], "a", "b") | {"prompt": "another"},
            "'prompt' is not among the turns",
        ),
        ({"instruction": "q", "completions": []}, "0 of 0 completions"),
    ],
)
def test_bad_conversations_and_rows_of_no_known_format(tmp_path: Path, row: Any, words: str) -> None:
    message = refused(tmp_path, [row])
    assert "rows.jsonl:1: " in message and all(part in message for part in words.split(": ")), message


KEYS = [
    *("prompt", "chosen", "rejected", "label", "completion", "completions", "instruction", "conversations", "messages"),
    *("system", "history", "id", "group", "beta", "input"),
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", " ", "\n\nHuman: a", "b", "\ud800", "1e999"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "response", "score"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_a_row_holds_it_is_a_pair_or_an_error_with_its_line(form: Format, data: st.DataObject) -> None:
    value = data.draw(st.dictionaries(st.sampled_from(KEYS), ANYTHING) | ANYTHING)
    if isinstance(value, dict):
        form.matches(value)
    checked = check_rows([Row(value, "rows.jsonl", 4)], form)
    assert len(checked.pairs) + len(checked.errors) == 1
    assert all(str(error).startswith("rows.jsonl:4: ") for error in checked.errors)
    assert len(to_jsonl(checked.pairs).encode().splitlines()) == len(checked.pairs)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"\n\n", "no rows"),
        ("empty.json", b"[]", "no rows"),
        ("empty.csv", b"prompt,chosen,rejected\n", "no rows"),
        ("bytes.jsonl", b"\xff\xfe\x00", "not UTF-8"),
        ("bytes.csv", b"prompt\n\xff\n", "not UTF-8"),
        ("cut.jsonl.gz", gzip.compress(b'{"prompt": "p"}' * 99, mtime=0)[:30], "not a whole gzip file"),
        ("not.jsonl.gz", b'{"prompt": 1}', "not a whole gzip file"),
        ("not.parquet", b"PAR0", "not a Parquet file"),
        ("bad.json", b'[{"prompt": "p",\n  "chosen" }]', ":2: not valid JSON"),
        ("cut.json", b'[\n{"prompt": "p"}\n', "the array is cut short"),
        ("comma.json", b'[{"a": 1}\n{"a": 2}]', ":2: not valid JSON (Expecting ','"),
        (
            "object.json",
            b'{"train": [{"prompt": "p"}], "test": [{"prompt": "p"}]}',
            "several lists of rows (train, test)",
        ),
        ("array.jsonl", b'[\n{"prompt": "p"}]', "name it .json"),
        ("deep.jsonl", b"[" * 100_000, "nested too deeply"),
        ("deep.json", b"[" * 100_000, "nested too deeply"),
        ("digits.jsonl", b'{"beta": ' + b"9" * 5000 + b"}", ":1: not valid JSON"),
        ("cells.csv", b'prompt,chosen,rejected\np,"a\nb",c\np,a\n', ":4: 2 cells, but the header has 3"),
        ("twice.csv", b"prompt,prompt\n", "duplicate column 'prompt'"),
        ("quote.csv", b'prompt,chosen,rejected\np,"a"b,c\n', ":2: not valid CSV"),
        ("emoji.jsonl", b'{"prompt": "p", "chosen": "\\ud83d", "rejected": "r"}', "half of a surrogate pair"),
        (
            "id.jsonl",
            b'{"id": "\\ud83d", "prompt": "p", "chosen": "c", "rejected": "r"}',
            "'id' has half of a surrogate",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        load_source(name, tmp_path)
    assert words in str(caught.value) and str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_lines_of_json_arrays_and_of_cells_with_line_breaks(tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": "一\n二"}, {**GOOD, "prompt": "三"}]
    for ending, lines in ((".json", [2, 7]), (".csv", [2, 4])):
        FILES[ending](tmp_path / f"p{ending}", rows)
        assert [pair.line for pair in load_source(f"p{ending}", tmp_path).pairs] == lines


def test_a_byte_order_mark_and_jsonl_called_json(tmp_path: Path) -> None:
    text = "\ufeff" + json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "prompt": "q"}) + "\n"
    (tmp_path / "p.json").write_text(text, encoding="utf-8")
    assert [pair.line for pair in load_source("p.json", tmp_path).pairs] == [1, 2]
    one = {"chosen": [turn("user", "问"), *answer("a")], "rejected": [turn("user", "问"), *answer("b")]}
    (tmp_path / "one.json").write_text(json.dumps(one, indent=1), encoding="utf-8")
    assert len(load_source("one.json", tmp_path).pairs) == 1


def test_rows_that_prefer_nothing_are_dropped_on_demand_only(tmp_path: Path) -> None:
    tied = {"instruction": "q", "completions": [{"response": str(i), "score": 3} for i in range(2)]}
    for row, kind in (({**GOOD, "chosen": "r"}, "identical"), ({**GOOD, "rejected": " "}, "empty"), (tied, "tied")):
        good = GOOD if "prompt" in row else ultrafeedback([turn("user", "q")], "a", "b")
        with pytest.raises(NoPreferenceError, match=r"rows.jsonl:1: .*without_preference: drop"):
            load_rows(tmp_path, [row, good])
        loaded = load_source("rows.jsonl", tmp_path, without_preference="drop")
        assert len(loaded.pairs) == 1 and [error.kind for error in loaded.dropped] == [kind]
    for rows, words in (
        ([{**GOOD, "chosen": "r"}], "no row has a preference"),
        ([GOOD, {**GOOD, "chosen": 3}], r"rows.jsonl:2: 'chosen' must be"),
    ):
        with pytest.raises(DataError, match=words):
            load_rows(tmp_path, rows, without_preference="drop")


# --- LLaMA-Factory's dataset_info.json

ASKED = {"instruction": "q", "chosen": "c", "rejected": "r"}


def entry_of(tmp_path: Path, entry: Any, rows: Rows, source: str = "dataset_info.json#mine") -> Any:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry, "other": {"file_name": "x"}}))
    return load_source(source, tmp_path)


def test_columns_and_tags(tmp_path: Path) -> None:
    row = {
        "talk": [{"who": "U", "what": "你好"}, {"who": "B", "what": "hi"}, {"who": "U", "what": "再见"}],
        "good": {"who": "B", "what": "好"},
        "bad": {"who": "B", "what": "坏"},
        "rules": "简短",
    }
    columns = {"messages": "talk", "chosen": "good", "rejected": "bad", "system": "rules"}
    tags = {"role_tag": "who", "content_tag": "what", "user_tag": "U", "assistant_tag": "B"}
    entry = {"file_name": "rows.jsonl", "ranking": True, "formatting": "sharegpt", "columns": columns, "tags": tags}
    for source in ("dataset_info.json#mine", "dataset_info.json", ".#mine", "."):
        pair = entry_of(tmp_path, entry, [row], source).pairs[0]
        assert [one["content"] for one in pair.prompt] == ["简短", "你好", "hi", "再见"]
        assert [one["role"] for one in pair.prompt] == ["system", "user", "assistant", "user"]
        assert (pair.chosen, pair.rejected) == (answer("好"), answer("坏"))


def test_columns_left_out_are_not_read(tmp_path: Path) -> None:
    row = {"instruction": "问", "input": "more", "system": "s", "history": [["a", "b"]], "chosen": "c", "rejected": "r"}
    every = {"prompt": "instruction", "query": "input", "system": "system", "history": "history"}
    for columns, texts in (
        ({}, ["问\nmore"]),
        ({"prompt": "instruction"}, ["问"]),
        (every, ["s", "a", "b", "问\nmore"]),
    ):
        entry = {"file_name": "rows.jsonl", "ranking": True, "columns": columns}
        assert [one["content"] for one in entry_of(tmp_path, entry, [row]).pairs[0].prompt] == texts


def test_num_samples(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "chosen": "c", "rejected": "r"} for i in range(20)]
    small, large = (
        entry_of(tmp_path, {"file_name": "rows.jsonl", "ranking": True, "num_samples": n}, rows) for n in (5, 12)
    )
    assert len(small.pairs) == 5 and len(large.pairs) == 12
    assert {pair.id for pair in small.pairs} < {pair.id for pair in large.pairs}
    more = entry_of(tmp_path, {"file_name": "rows.jsonl", "ranking": True, "num_samples": 50}, rows)
    assert len(more.pairs) == 20 and "50 pairs requested, 20 available" in more.notes[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranking": False}, "no preference data"),
        ({"formatting": "sharegtp"}, "formatting is 'sharegtp'"),
        ({"columns": {"choosen": "c"}}, "did you mean 'chosen'?"),
        ({"columns": {"images": "i"}}, "only text is trained"),
        ({"columns": ["c"]}, "columns must be an object"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"split": 3}, "split is 3"),
        ({"file_name": None}, "missing file_name or hf_hub_url"),
        ({"file_name": None, "ms_hub_url": "a/b"}, "ms_hub_url is not supported"),
        ({"file_name": "none.json"}, "no such file"),
        ({"columns": {"prompt": "question"}}, "missing question, the column of the prompt"),
    ],
)
def test_mistakes_in_dataset_info(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        entry_of(tmp_path, {"file_name": "rows.jsonl", "ranking": True, **change}, [ASKED])


def test_names_in_dataset_info(tmp_path: Path) -> None:
    entry = {"file_name": "rows.jsonl", "ranking": True, "colums": {}}
    assert "key 'colums'" in entry_of(tmp_path, entry, [ASKED]).notes[0]
    for source, words in (("dataset_info.json#mien", r"did you mean 'mine'\?"), ("rows.jsonl#x", "remove #x")):
        with pytest.raises(DataError, match=words):
            entry_of(tmp_path, entry, [ASKED], source)
    (tmp_path / "dataset_info.json").write_text('{"a": {\n"b" 1}}')
    with pytest.raises(DataError, match=r"dataset_info.json:2: not valid JSON"):
        load_source("dataset_info.json#a", tmp_path)


# --- the hub, and folders laid out like it


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repo"
    (folder / "data").mkdir(parents=True)
    for i in range(2):
        rows = [trl_conversational([turn("user", f"第{i}题 {k}")], "对", "错") for k in range(3)]
        write_parquet(folder / "data" / f"train-0000{i}-of-00002.parquet", rows)
    write_parquet(
        folder / "data" / "test-00000-of-00001.parquet", [trl_conversational([turn("user", "考")], "对", "错")]
    )
    return folder


def test_a_folder_laid_out_like_a_hub_data_set(hub_folder: Path) -> None:
    loaded = load_source("repo", hub_folder.parent)
    assert len(loaded.pairs) == 6 and loaded.formats == ["trl-conversational"]
    assert [pair.prompt[0]["content"] for pair in loaded.pairs][-1] == "第1题 2"
    assert loaded.pairs[4].source == f"{hub_folder}#train" and loaded.pairs[4].line == 5
    assert len(load_source("repo#test", hub_folder.parent).pairs) == 1
    assert len(load_source("repo#train[:2]", hub_folder.parent).pairs) == 2
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        load_source("repo#validation", hub_folder.parent)
    assert "\n" not in str(caught.value)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the hub is asked for, in place of asking it; every answer is one good row."""
    calls: list[Any] = []

    def load_dataset(path: str, **keywords: Any) -> Rows:
        calls.append((path, keywords))
        return [GOOD | {"question": "q"}] if keywords["name"] == "zh" else [GOOD]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_hub_data_sets_are_asked_for_as_written(asked: list[Any]) -> None:
    plain = {"name": None, "data_dir": None, "revision": None, "split": "train", "streaming": False}
    for source, changed in (
        ("hub:org/name", {}),
        ("hub:org/name@v1.0#test", {"revision": "v1.0", "split": "test"}),
        ("hub:org/name@refs/convert/parquet", {"revision": "refs/convert/parquet"}),
        ("hub:org/name:en@main#train[:10]", {"name": "en", "revision": "main", "split": "train[:10]"}),
        ("hub:org/name/helpful-base", {"data_dir": "helpful-base"}),
    ):
        pair = load_source(source).pairs[0]
        assert asked[-1] == ("org/name", plain | changed)
        assert pair.line == 1 and pair.source.startswith("hub:org/name")
    with pytest.raises(DataError, match="write hub:OWNER/NAME"):
        load_source("hub:name")


def test_an_entry_of_the_hub(tmp_path: Path, asked: list[Any]) -> None:
    entry = {
        "hf_hub_url": "org/name",
        "ranking": True,
        "subset": "zh",
        "split": "test",
        "folder": "f",
        "revision": "r1",
    }
    loaded = entry_of(tmp_path, {**entry, "columns": {"prompt": "question"}}, [GOOD])
    wanted = {"name": "zh", "data_dir": "f", "revision": "r1", "split": "test", "streaming": False}
    assert asked == [("org/name", wanted)]
    assert loaded.formats == ["alpaca-ranking"]


def test_a_hub_out_of_reach(tmp_path: Path) -> None:
    code = "from trainers.formats import load_source\nload_source('hub:no-such-org/no-such-data')"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300
    )
    last = result.stderr.strip().splitlines()[-1]
    assert "DataError: hub:no-such-org/no-such-data#train: not in the local cache" in last and "give the folder" in last


# --- mixtures and splits


def numbered(path: Path, name: str, count: int) -> None:
    write_jsonl(path, [{"id": str(i), "prompt": f"{name} {i}", "chosen": "是", "rejected": "否"} for i in range(count)])


def test_mixtures_keep_their_proportions(tmp_path: Path) -> None:
    numbered(tmp_path / "a.jsonl", "a", 90)
    numbered(tmp_path / "b.jsonl", "b", 40)

    def mixed(weight_a: float, weight_b: float, seed: int = 0) -> list[PreferencePair]:
        return load_mixture([Part("a.jsonl", weight_a), Part("b.jsonl", weight_b)], tmp_path, seed).pairs

    for weights, counts in (((1, 1), (40, 40)), ((3, 1), (90, 30)), ((0.5, 1.0), (20, 40))):
        names = [pair.id.split("/")[0] for pair in mixed(*weights)]
        assert (names.count("a"), names.count("b")) == counts
    ids = {pair.id for pair in mixed(1, 1)}
    assert ids == {pair.id for pair in mixed(2, 2)} != {pair.id for pair in mixed(1, 1, seed=1)}
    assert {name for name in ids if name.startswith("a/")} < {pair.id for pair in mixed(3, 1)}
    whole = load_mixture([Part("a.jsonl"), Part("b.jsonl", limit=7)], tmp_path)
    assert len(whole.pairs) == 97 and len({pair.id for pair in whole.pairs}) == 97
    assert len(load_mixture([Part("a.jsonl", share=0.5), Part("b.jsonl", limit=7)], tmp_path).pairs) == 52


def test_a_draw_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "chosen": "c", "rejected": "r"} for i in range(30)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_jsonl(tmp_path / "b.jsonl", rows[::-1])
    ids = [{p.id for p in load_mixture([Part(f"{n}.jsonl", limit=9)], tmp_path, 3).pairs} for n in "ab"]
    assert ids[0] == ids[1] and len(ids[0]) == 9


def test_mixtures_that_cannot_be(tmp_path: Path) -> None:
    numbered(tmp_path / "a.jsonl", "a", 9)
    numbered(tmp_path / "b.jsonl", "b", 9)
    for parts, words in (
        ([Part("a.jsonl", 1.0), Part("b.jsonl")], "give every source a weight, or none"),
        ([Part("a.jsonl", 1.0), Part("b.jsonl", 0.001)], "its weight leaves no pair"),
        ([], "no sources"),
    ):
        with pytest.raises(DataError, match=words):
            load_mixture(parts, tmp_path)
    twice = load_mixture([Part("a.jsonl"), Part("a.jsonl")], tmp_path).pairs
    assert len({pair.id for pair in twice}) == 18 and len(twice) == 18


def made(prompt: str, group: str, number: int) -> PreferencePair:
    return PreferencePair(f"{number}", [turn("user", prompt)], answer("a"), answer("b"), group)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("問答ABC дe"), st.sampled_from("123456789")), min_size=2, max_size=40),
    st.sampled_from([0.1, 0.3, 0.5]),
    st.integers(0, 3),
)
def test_a_split_never_parts_a_prompt_or_a_group(rows: list[tuple[str, str]], share: float, seed: int) -> None:
    pairs = [made(prompt, group, i) for i, (prompt, group) in enumerate(rows)]
    try:
        rest, held = split_by_prompt(pairs, share, seed)
    except ValueError as error:
        assert "a side would be empty" in str(error)
        return
    assert sorted(p.id for p in rest + held) == sorted(p.id for p in pairs) and rest and held
    for key in (lambda p: p.group, lambda p: p.prompt[0]["content"].strip()):
        assert not {key(p) for p in rest} & {key(p) for p in held}
    again = split_by_prompt(pairs[::-1], share, seed)
    assert {p.id for p in again[1]} == {p.id for p in held}


def test_the_share_of_a_split_is_that_of_the_prompts() -> None:
    pairs = [made(f"题 {i // 3}", f"g{i // 3}", i) for i in range(300)]
    rest, held = split_by_prompt(pairs, 0.2, 0)
    assert (len(rest), len(held)) == (240, 60)
    assert {p.id for p in split_by_prompt(pairs, 0.2, 1)[1]} != {p.id for p in held}
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            split_by_prompt(pairs, share, 0)


# --- real files, and imports


def test_llamafactorys_own_files_load_unchanged(shared_data: Path) -> None:
    folder = shared_data / "preferences" / "llamafactory"
    for name in ("dpo_en_demo", "dpo_zh_demo"):
        loaded = load_source(f"dataset_info.json#{name}", folder)
        raw = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        assert len(loaded.pairs) == len(raw) == 300 and not loaded.notes
        assert content(loaded.pairs) == content(load_source(f"{name}.json", folder).pairs)
        for pair, row in zip(loaded.pairs, raw, strict=True):
            assert [one["content"] for one in pair.prompt] == [one["value"] for one in row["conversations"]]
            assert pair.chosen == answer(row["chosen"]["value"]) and pair.rejected == answer(row["rejected"]["value"])
    lines = (folder / "dpo_zh_demo.json").read_text(encoding="utf-8").splitlines()
    assert all(lines[pair.line - 1].strip() == "{" for pair in loaded.pairs)


@pytest.mark.parametrize(
    ("name", "pairs", "groups"),
    [
        ("gsm8k_correctness_pairs", 2429, 731),
        ("qa_feedback_dev_pairs", 2616, 488),
        ("pandalm_pairs", 836, 153),
        ("oasst_zh_pairs", 1215, 772),
    ],
)
def test_real_pairs(shared_data: Path, name: str, pairs: int, groups: int) -> None:
    path = shared_data / "preferences" / f"{name}.jsonl"
    loaded = load_source(str(path)).pairs
    assert len(loaded) == pairs and len({pair.group for pair in loaded}) == groups
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for pair, row in zip(loaded, rows, strict=True):
        assert pair.id == row["id"] and pair.prompt[-1] == turn("user", row["prompt"])
        assert len(pair.prompt) == 1 + 2 * len(row.get("history", []))
    rest, held = split_by_prompt(loaded, 0.1, 0)
    assert not {p.prompt[-1]["content"] for p in rest if len(p.prompt) == 1} & {
        p.prompt[-1]["content"] for p in held if len(p.prompt) == 1
    }


def test_formats_import_neither_torch_nor_datasets() -> None:
    names = ("torch", "datasets", "pyarrow")
    code = f"import sys, trainers.formats.inspect\nprint([n for n in {names!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
