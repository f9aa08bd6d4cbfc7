"""inspect-data: its figures against data made to have them, its page of 80 columns, and its errors."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.harness.conftest import one_error, write_jsonl
from trainers.formats.inspect import inspect_source, overlaps, spread
from trainers.formats.scripts import count_scripts, count_words, encoding_trouble

Cli = Callable[..., subprocess.CompletedProcess[str]]


def row(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def figures(path: Path, rows: list[Any]) -> dict[str, Any]:
    return inspect_source(str(write_jsonl(path, rows))).figures


ROWS = [
    row("你好，你是谁？", "我是助手。很高兴见到你。", "不知道"),  # 5 words; 10 against 3
    row("Who are you?", "An assistant", "I'm not going to tell you"),  # 3; 2 against 6
    row("Who are you?", "An assistant", "I'm not going to tell you"),
    row("who  ARE you?", "An assistant!", "An  assistant!"),
    row("Кто ты?", "Помощник", "Никто"),
    row("Кто ты?", "Никто", "Помощник"),
]


def test_counts_lengths_and_bias(tmp_path: Path) -> None:
    found = figures(tmp_path / "p.jsonl", ROWS)
    assert found["format"]["name"] == "trl-standard"
    assert (found["rows"], found["pairs"], found["prompts"]) == (6, 6, 4)
    words = found["lengths"]["words"]
    assert words["prompt"]["max"] == 5 and words["chosen"]["max"] == 10 and words["rejected"]["max"] == 6
    assert words["prompt"]["mean"] == pytest.approx((5 + 3 + 3 + 3 + 2 + 2) / 6)
    bias = found["length_bias"]["words"]
    assert bias["chosen_longer"] == pytest.approx(1 / 6) and bias["rejected_longer"] == pytest.approx(2 / 6)
    assert bias["mean_difference"] == pytest.approx((7 - 4 - 4) / 6)
    assert found["length_bias"]["characters"]["chosen_longer"] == pytest.approx(2 / 6)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_doubles_and_contradictions(tmp_path: Path) -> None:
    doubles = figures(tmp_path / "p.jsonl", ROWS)["duplicates"]
    assert doubles["repeated_pairs"] == 1 and doubles["repeated_pairs_loosely"] == 1
    assert doubles["contradictions"] == 1
    assert doubles["prompts_with_several_pairs"] == 2 and doubles["most_pairs_of_a_prompt"] == 2
    assert doubles["answers_equal_but_for_space_or_case"] == 1


def test_groups_that_share_a_prompt(tmp_path: Path) -> None:
    rows = [row("p", "a", "b", group=1), row("p", "c", "d", group=2), row("q", "e", "f", group=2), row("r", "g", "h")]
    groups = figures(tmp_path / "p.jsonl", rows)["groups"]
    assert groups == {"given": 3, "kept_together": 2, "largest": 3, "prompts_in_several": 1}


def test_bad_rows_are_counted_and_listed(tmp_path: Path) -> None:
    rows = [row("p", "a", "b"), row("p", "a", "a"), row("p", "", "a"), row("p", "a", 7), "text"]  # type: ignore[arg-type]
    found = figures(tmp_path / "p.jsonl", rows)
    problems = found["problems"]
    assert (problems["rows"], problems["without_preference"], problems["identical"], problems["empty"]) == (4, 2, 1, 1)
    assert [message.split(":")[1] for message in problems["first"]] == ["2", "3", "4", "5"]
    assert found["pairs"] == 1


def test_encoding_trouble() -> None:
    assert encoding_trouble("a \ufffd") == {"replacement"}
    for text in ("café", "你好，世界", "Привет", "“quoted” – dashed…", "naïve Ärger", "עברית"):
        assert encoding_trouble(text) == set(), text
        broken = text.encode().decode("latin-1")
        assert "mojibake" in encoding_trouble(broken), text
    for text in ("“quoted” – dashed…", "café", "日本"):
        assert "mojibake" in encoding_trouble(text.encode().decode("cp1252", "ignore")), text
    assert encoding_trouble("前锟斤拷后") == {"mojibake"}
    assert encoding_trouble("a\x00b") == encoding_trouble("\x1b[0m") == {"control"}
    assert encoding_trouble("a\u200bb") == encoding_trouble("\ufeffa") == encoding_trouble("\u202eabc") == {"invisible"}
    assert encoding_trouble("Fast &amp; Furious") == encoding_trouble("caf&#233;") == {"entity"}
    assert encoding_trouble("中&quot;文\ufffd") == {"entity", "replacement"}
    assert encoding_trouble("R&D; a & b; if (a && b) x();") == set()
    for text in ("a\tb\r\nc", "👩\u200d🚀", "می\u200cخواهم", "🏴\U000e0067\U000e0062\U000e007f"):
        assert encoding_trouble(text) == set(), text


def test_scripts_and_words() -> None:
    assert count_scripts("abc 中文 ひら カ Привет 한 مر हि 123 😀") == {
        "Latin": 3,
        "Han": 2,
        "Hiragana": 2,
        "Katakana": 1,
        "Cyrillic": 6,
        "Hangul": 1,
        "Arabic": 2,
        "Devanagari": 1,
    }
    for text, words in (
        ("It's a well known fact.", 5),
        ("你好 world，再见", 5),
        ("हिन्दी भाषा", 2),
        ("안녕 세상", 2),
        ("", 0),
        ("...", 0),
    ):
        assert count_words(text) == words, text


def test_spread() -> None:
    assert spread([]) is None
    found = spread([float(i) for i in range(100)])
    assert found == {"mean": 49.5, "median": 49.5, "p5": 5.0, "p95": 95.0, "min": 0.0, "max": 99.0}


def test_overlaps(tmp_path: Path) -> None:
    a = inspect_source(str(write_jsonl(tmp_path / "a.jsonl", ROWS))).checked.pairs
    b = inspect_source(str(write_jsonl(tmp_path / "b.jsonl", [ROWS[0], row("Who are YOU?", "x", "y")]))).checked.pairs
    (found,) = overlaps({"a": a, "b": b})
    assert (found["prompts"], found["prompts_loosely"], found["pairs"]) == (1, 2, 1)
    assert (found["share_of_a"], found["share_of_b"]) == (0.25, 0.5)


def test_the_page_and_the_json_agree_and_fit(tmp_path: Path, cli: Cli) -> None:
    long = row("说" * 900, "长" * 300, "短\u202e\x00", id="长" * 70)
    path, other = (
        write_jsonl(tmp_path / "训练.jsonl", [*ROWS, long, row("p", "a", "a")]),
        write_jsonl(tmp_path / "b.jsonl", ROWS[:2]),
    )
    page = cli("inspect-data", path, other)
    assert page.returncode == 0, page.stderr
    assert max(map(cell_len, page.stdout.splitlines())) <= 80
    assert not any(line != line.rstrip() for line in page.stdout.splitlines())
    result = cli("inspect-data", path, other, "--json", "--samples", 2)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    first = found["sources"][0]
    assert (first["rows"], first["pairs"], len(first["samples"])) == (8, 7, 2)
    assert first["prompt_perplexity"] == {"values": None, "reason": "no --model given"}
    assert found["overlaps"][0]["prompts"] == 2
    told = (
        "TRL, standard",
        "8 rows, 7 pairs, 5 prompts",
        "1 rows cannot be used",
        "invisible characters in 1",
        "Cyrillic",
    )
    assert all(words in page.stdout for words in told)
    assert "\u202e" not in page.stdout and "\x00" not in page.stdout


def test_the_first_ten_lines_name_every_kind_of_trouble(tmp_path: Path, tiny_model: Path, here: Cli) -> None:
    faults = ["a \ufffd", "caf\u00c3\u00a9", "a\x01b", "a\u200bb", "a &amp; b", "<|im_end|>"]
    rows = [
        row(f"p{n}", text, "no", note_of_an_annotator="x", source_of_the_prompt="y") for n, text in enumerate(faults)
    ]
    rows += [row("p", "a", "a"), row("p", "", "a"), row("p", "a", "a", images=["a.png"])]
    tokenizer = tmp_path / "tokenizer"
    shutil.copytree(tiny_model, tokenizer, ignore=shutil.ignore_patterns("*.safetensors"))
    page = here("inspect-data", write_jsonl(tmp_path / "p.jsonl", rows), "--model", tokenizer).stdout.splitlines()
    head = " ".join(" ".join(page[:10]).split())
    kinds = (
        "3 rows cannot be used",
        "not read: note_of",
        "1 pairs with special tokens",
        "chat markup",
        "characters lost",
    )
    for words in (*kinds, "UTF-8 read as another", "control characters", "invisible characters", "HTML entities"):
        assert words in head, words
    assert "where the chat template puts them too, first in" in " ".join(" ".join(page).split())


def test_tokens_and_prompt_perplexity_with_a_model(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", ROWS)
    result = cli("inspect-data", path, "--json", "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    (found,) = json.loads(result.stdout)["sources"]
    tokens = found["lengths"]["tokens"]
    assert tokens["chosen"]["max"] >= found["lengths"]["words"]["chosen"]["max"]
    perplexity = found["prompt_perplexity"]
    assert perplexity["prompts"] == perplexity["of"] == 4 and perplexity["reason"] is None
    assert 1 < perplexity["values"]["min"] <= perplexity["values"]["median"] <= perplexity["values"]["max"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.jsonl"], "no such file"),
        (["org/name"], "written hub:org/name"),
        (["embedded:constraint-pairs/trian"], "no such embedded data"),
        (["bad.jsonl"], "bad.jsonl:2: not valid JSON"),
        (["same.jsonl"], "no usable pair in same.jsonl"),
        (["good.jsonl", "--model", "nowhere"], "--model nowhere: no such directory"),
        (["good.jsonl", "--samples", "-1"], "give a whole number"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Cli, arguments: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "good.jsonl", ROWS)
    write_jsonl(tmp_path / "same.jsonl", [row("p", "a", "a")])
    (tmp_path / "bad.jsonl").write_text(json.dumps(ROWS[0]) + "\n{\n", encoding="utf-8")
    assert words in one_error(here("inspect-data", *arguments))


def test_real_files(shared_data: Path) -> None:
    folder = shared_data / "preferences"
    zh = inspect_source("oasst_zh_pairs.jsonl", folder).figures
    assert zh["pairs"] == 1215 and max(zh["scripts"], key=zh["scripts"].get) == "Han"
    assert 0.755 < zh["length_bias"]["words"]["chosen_longer"] < 0.765  # the data's README says 76 %
    demo = inspect_source("dataset_info.json#dpo_zh_demo", folder / "llamafactory").figures
    assert demo["duplicates"]["repeated_pairs"] == 11 and demo["turns"]["with_system"] == 64
    assert demo["encoding"]["replacement"]["pairs"] == 6
