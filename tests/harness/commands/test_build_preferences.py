"""build-preferences: a reward of ten lines from outside goes all the way to the report; flips of files; what is refused."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from evals.preferences.data_card import write_card
from harness.cli import build_parsers
from tests.harness.conftest import one_error, write_jsonl
from trainers.formats import load_pairs

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "trainers" / "data" / "constraint_pairs"
REWARD = '''
from evals.rewards.base import Reward


class Ascii(Reward):
    """Share of ASCII characters in an answer, times `worth`."""

    def __init__(self, worth=1.0):
        self.worth, self.rule = worth, f"ascii/1: share of ASCII characters, times {worth:g}"

    def score(self, rows, answers):
        return [self.worth * sum(map(str.isascii, a)) / max(len(a), 1) for a in answers]
'''
PROMPTS = [
    {"id": f"q{i}", "prompt": f"Say something about {topic}, number {i}.", "topic": topic, "style": style}
    for i, (topic, style) in enumerate((topic, style) for topic in "abcdefgh" for style in ("plain", "terse"))
]
MATRIX = """\
name: ascii
model: {name_or_path: "MODEL"}
data: {train: data/train.jsonl, heldout: data/test.jsonl}
training: {per_device_train_batch_size: 2, max_steps: 2, max_length: 128, bf16: false, gradient_checkpointing: false,
  learning_rate: 1e-3}
methods:
  - {name: fixed}
  - {name: oracle, rule: dataset_beta}
seeds: [0]
evaluation:
  engine: {backend: transformers, max_model_len: 256}
  benchmarks:
    - {name: ascii, kind: gold_reward, reward: {kind: "mine.py:Ascii", worth: 10}, prompts: data/test_prompts.jsonl,
       max_new_tokens: 12, temperature: 1.0}
    - {name: mood, kind: gold_reward, reward: sentiment, prompts: data/test_prompts.jsonl, max_new_tokens: 12}
  judges:
    - {name: short, kind: verifiable, reward: {kind: length, target: 3}, benchmarks: [ascii]}
report: {baseline: fixed, primary: ascii/gold_reward}
"""


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.timeout(600)
def test_a_reward_from_outside_goes_to_the_report(tmp_path: Path, tiny_model: Path, cli: Any) -> None:
    write_jsonl(tmp_path / "prompts.jsonl", PROMPTS)
    (tmp_path / "mine.py").write_text(REWARD, encoding="utf-8")
    data = tmp_path / "data"
    build = (
        *("build-preferences", "--prompts-from", tmp_path / "prompts.jsonl", "--model", tiny_model),
        *("--backend", "transformers", "--reward", f"{tmp_path}/mine.py:Ascii", "--reward-param", "worth=10"),
        *("--k", 3, "--max-new-tokens", 12, "--pairing", "all", "--min-gap", 0.1, "--out", data),
        *("--split-by", "topic", "--split-shares", "train:0.5,test:0.5", "--flip", 0.5),
    )
    done = cli(*build)
    assert done.returncode == 0, done.stderr
    train, test = rows_of(data / "train.jsonl"), rows_of(data / "test.jsonl")
    assert len(train) >= 8 and {row["topic"] for row in train}.isdisjoint(row["topic"] for row in test)
    assert all(abs(row["score_chosen"] - row["score_rejected"]) >= 0.1 for row in train + test)
    for row in train:
        shares = [10 * sum(map(str.isascii, row[k])) / len(row[k]) for k in ("chosen", "rejected")]
        assert [row["score_chosen"], row["score_rejected"]] == pytest.approx(shares)
        assert (shares[0] < shares[1]) == row["flipped"] and row["rule"].startswith(
            "ascii/1: share of ASCII characters, times 10"
        )
        assert row["log_prompt_perplexity"] > 0 and row["style"] in ("plain", "terse")
    assert sum(row["flipped"] for row in train) == round(0.5 * len(train)) and "beta" not in test[0]
    assert statistics.fmean(pair.beta or 0 for pair in load_pairs(data / "train.jsonl")) == pytest.approx(0.1)
    card = (data / "README.md").read_text(encoding="utf-8")
    told = ("--split-by topic", "| pairing | all, scores at least 0.1 apart |", "| pairs flipped |", "| terse |")
    assert all(text in card for text in told), card

    (tmp_path / "m.yaml").write_text(MATRIX.replace("MODEL", str(tiny_model)), encoding="utf-8")
    ran = cli("run-matrix", tmp_path / "m.yaml", "--output", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["primary"]["value"] == "ascii/gold_reward"
    metrics = {(m["benchmark"], m["metric"]) for m in summary["metrics"]}
    assert {("ascii", "gold_reward"), ("mood", "gold_reward"), ("ascii@short", "score")} <= metrics
    scores = json.loads((tmp_path / "out" / "reference" / "scores" / "ascii.json").read_text(encoding="utf-8"))
    values = [item["values"]["gold_reward"] for item in scores["items"]]
    found = scores["metrics"]["gold_reward"]
    assert found["value"] == pytest.approx(statistics.fmean(values)) and len(set(values)) > 2
    groups = sorted({item["group"] for item in scores["items"]})
    topics = [
        statistics.fmean(v for v, i in zip(values, scores["items"], strict=True) if i["group"] == topic)
        for topic in groups
    ]  # prompts of a topic are a cluster
    assert found["stderr"] == pytest.approx(statistics.stdev(topics) / len(topics) ** 0.5)
    for item in scores["items"]:
        text = item["response"]
        assert item["values"]["gold_reward"] == pytest.approx(10 * sum(map(str.isascii, text)) / max(len(text), 1))
    assert "ascii" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_shipped_card_is_what_its_records_say(tmp_path: Path) -> None:
    for path in SHIPPED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_card(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == (SHIPPED / "README.md").read_bytes()


def test_the_shipped_pairs_can_be_flipped(tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "noisy.jsonl"
    flip = ("build-preferences", "--pairs", "embedded:constraint-pairs/train", "--out", out, "--seed", 3)
    done = cli(*flip, "--flip", "0.4,0.2,0", "--flip-by", "perplexity", "--flip-beta-ratio", 2)
    assert done.returncode == 0, done.stderr
    clean, noisy = rows_of(SHIPPED / "train.jsonl"), rows_of(out)
    assert [row["id"] for row in noisy] == [row["id"] for row in clean]
    assert all((a["chosen"] == b["rejected"]) == b["flipped"] for a, b in zip(clean, noisy, strict=True))
    share = sum(row["flipped"] for row in noisy) / len(noisy)
    assert share == pytest.approx(0.2, abs=0.005)
    assert statistics.fmean(pair.beta or 0 for pair in load_pairs(out)) == pytest.approx(0.1)
    assert len({row["beta"] for row in noisy}) == 2 and f"{len(noisy)} pairs in {out}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prompts-from", "none.jsonl"), ["--prompts-from is 'none.jsonl'", "no such file"]),
        (("--prompts-from", "embedded:sentimnt/prompts"), ["no such embedded data", "did you mean"]),
        (("--prompts-from", "P"), ["prompt row 'q0'", "'constraints' is missing or empty", "choose another reward"]),
        (("--prompts-from", "P", "--reward", "sentimet"), ["unknown reward 'sentimet'", "did you mean 'sentiment'"]),
        (("--prompts-from", "P", "--reward", "length", "--reward-param", "targt=3"), ["did you mean 'target'"]),
        (("--prompts-from", "P", "--reward", "length", "--split-by", "subject"), ["has no 'subject'"]),
        (("--prompts-from", "P", "--reward", "length", "--k", 1), ["k must be >= 2"]),
        (("--prompts-from", "P", "--reward", "length", "--min-gap", -1), ["--min-gap", "give a number of at least 0"]),
        (("--prompts-from", "P", "--reward", "length", "--flip", "0.1,0.2"), ["give one share between 0 and 1"]),
        (("--prompts-from", "P", "--pairs", "P", "--flip", 0.1), ["--pairs and --prompts-from", "one of them"]),
        (("--pairs", "P"), ["--pairs needs --flip"]),
        (("--pairs", "P", "--flip", 0.3), ["P:1: a pair to flip has prompt, chosen and rejected"]),
        (("--split-by", "topic"), ["--split-by splits the prompts of --prompts-from"]),
        (("--flip-by", "perplexity"), ["--flip-by needs --flip with three shares"]),
    ],
)
def test_mistakes_are_named_before_anything_is_sampled(
    tmp_path: Path, here: Any, arguments: tuple[Any, ...], words: list[str]
) -> None:
    write_jsonl(tmp_path / "P", PROMPTS)
    given = [str(tmp_path / "P") if part == "P" else str(part) for part in arguments]
    said = one_error(here("build-preferences", *given, "--out", tmp_path / "out"))
    assert all(word.replace("P:1", f"{tmp_path}/P:1") in said for word in words), said
    assert not (tmp_path / "out").exists()


def test_the_command_of_the_shipped_pairs_is_written_as_before() -> None:
    from harness.commands.data.preference_arguments import command_line

    written = json.loads((SHIPPED / "train.build.json").read_text(encoding="utf-8"))["command"]
    options = build_parsers("build-preferences")[0].parse_args(written.split()[3:])
    said = command_line(options, {"train": [None] * 896, "heldout": [None] * 288})
    assert said == written.replace(" --out", " --top-p 1.0 --out")  # the option is younger than the data
