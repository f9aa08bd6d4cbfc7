"""The builder end to end with a deterministic sampler: files, resume after a kill, the data card."""

import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.constraints import gold_reward
from evals.constraints.text import words
from evals.preferences.build import BuildError, build, build_from_chosen, samples_path
from evals.preferences.data_card import write_card
from evals.preferences.flips import Noise
from evals.preferences.pairs import Completion
from evals.preferences.prompt_bank import generate_prompts
from evals.rewards.registry import from_spec

SENTENCES = "tea is good, and the sun has 3 kinds of light. People drink water! Why? 茶。 rain books"
VOCABULARY = SENTENCES.split()
PROMPTS = [{**row, "log_prompt_perplexity": 1.0 + i / 10} for i, row in enumerate(generate_prompts("train", 30, 0))]


class Sampler:
    """Text from a hash of (prompt, seed, index): any policy will do here. Can die before a given call."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.calls = 0
        self.dies_at = dies_at

    def __call__(self, prompts: list[str], k: int, seed: int) -> Sequence[Sequence[Completion]]:
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        return [[self._one(prompt, seed * 1000 + i) for i in range(k)] for prompt in prompts]

    @staticmethod
    def _one(prompt: str, seed: int) -> Completion:
        digest = hashlib.sha256(f"{prompt}{seed}".encode()).digest()
        length = 4 + digest[0] % 28
        text = " ".join(VOCABULARY[byte % len(VOCABULARY)] for byte in digest[:length])
        return Completion(text, seed, length, "length" if length > 28 else "stop")


def _build(out: Path, sampler: Sampler, prompts: Sequence[dict[str, Any]] = PROMPTS, **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"k": 4, "seed": 1, "policy": "toy", "sampling": {"temperature": 1.0}, "chunk": 8}
    return build(prompts, sampler, out, command="python -m toy --seed 1", **(settings | options))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_build(tmp_path: Path) -> None:
    out = tmp_path / "data" / "train.jsonl"
    progress: list[tuple[int, int]] = []
    record = _build(out, Sampler(), on_progress=lambda done, total: progress.append((done, total)))
    pairs = _rows(out)
    assert progress == [(8, 30), (16, 30), (24, 30), (30, 30)]
    assert len(pairs) == record["n_pairs"] >= 10 and record["n_samples"] == 120
    by_id = {row["id"]: row for row in PROMPTS}
    for pair in pairs:
        row = by_id[pair["group"]]
        assert pair["prompt"] == row["prompt"] and pair["log_prompt_perplexity"] == row["log_prompt_perplexity"]
        assert pair["score_chosen"] == gold_reward(pair["chosen"], row["constraints"]).score
        assert pair["score_rejected"] == gold_reward(pair["rejected"], row["constraints"]).score
        assert pair["score_chosen"] > pair["score_rejected"]
        assert pair["chosen"] == Sampler._one(row["prompt"], pair["seed_chosen"]).text
        assert pair["rejected_truncated"] == Sampler._one(row["prompt"], pair["seed_rejected"]).truncated
    assert json.loads((out.parent / "train.build.json").read_text()) == record
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dies_at", [1, 3])
@pytest.mark.parametrize("torn", ["", '{"id": "half', '{"id": "x", "prompt": "茶'])
def test_killed_build_resumes_to_the_same_files(tmp_path: Path, dies_at: int, torn: str) -> None:
    whole, killed = tmp_path / "whole" / "train.jsonl", tmp_path / "killed" / "train.jsonl"
    _build(whole, Sampler())
    with pytest.raises(KeyboardInterrupt):
        _build(killed, Sampler(dies_at))
    assert not killed.exists()
    with samples_path(killed).open("ab") as file:
        # Cut inside a character, as a kill would.
        file.write(torn.encode()[:-1])
    again = Sampler()
    _build(killed, again)
    assert again.calls == 4 - (dies_at - 1)
    assert _files(killed.parent) == _files(whole.parent)
    third = Sampler()
    _build(killed, third)
    assert third.calls == 0


def test_chunk_torn_in_the_middle(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole" / "train.jsonl", tmp_path / "torn" / "train.jsonl"
    _build(whole, Sampler())
    content = samples_path(whole).read_bytes()
    torn.parent.mkdir()
    samples_path(torn).write_bytes(content[: int(len(content) * 0.4)])
    _build(torn, Sampler())
    assert _files(torn.parent) == _files(whole.parent)


def test_damage_and_other_settings_are_named(tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    _build(out, Sampler())
    with pytest.raises(BuildError, match=r"samples\.jsonl:1: sampled with other settings \(k, seed differ\)"):
        _build(out, Sampler(), k=5, seed=2)
    changed = [{**PROMPTS[0], "prompt": "Another?"}, *PROMPTS[1:]]
    with pytest.raises(BuildError, match=r"samples\.jsonl:2: prompt .* has another text now"):
        _build(out, Sampler(), changed)
    lines = samples_path(out).read_text(encoding="utf-8").splitlines()
    samples_path(out).write_text("\n".join([*lines[:3], "garbage", *lines[3:]]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"samples\.jsonl:4: not valid JSON"):
        _build(out, Sampler())


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (PROMPTS, {"k": 1}, "k must be >= 2"),
        (PROMPTS, {"chunk": 0}, "chunk must be >= 1"),
        ([], {}, "no prompts"),
        ([PROMPTS[0], PROMPTS[0]], {}, "its id occurs twice"),
        ([PROMPTS[0], {**PROMPTS[0], "id": "z"}], {}, "its prompt occurs twice"),
        ([{**PROMPTS[0], "constraints": []}], {}, "'constraints' is missing or empty"),
        ([{**PROMPTS[0], "constraints": [{"kind": "bulets"}]}], {}, "did you mean 'bullets'"),
    ],
)
def test_errors_before_any_sampling(tmp_path: Path, prompts: Any, options: Any, message: str) -> None:
    sampler = Sampler()
    with pytest.raises(BuildError, match=message):
        _build(tmp_path / "train.jsonl", sampler, prompts, **options)
    assert sampler.calls == 0 and not list(tmp_path.iterdir())


def test_a_sampler_that_returns_too_few_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="must return 4 completions"):
        build(PROMPTS, lambda prompts, k, seed: [[] for _ in prompts], tmp_path / "t.jsonl",
              k=4, seed=0, policy="p", sampling={}, command="c")  # fmt: skip


def test_disjoint_from(tmp_path: Path) -> None:
    train = tmp_path / "train.jsonl"
    _build(train, Sampler())
    with pytest.raises(BuildError, match=r"train\.jsonl: shares \d+ prompts"):
        _build(tmp_path / "heldout.jsonl", Sampler(), disjoint_from=[train])
    _build(tmp_path / "heldout.jsonl", Sampler(), generate_prompts("heldout", 20, 0), disjoint_from=[train])


def test_data_card(tmp_path: Path) -> None:
    _build(tmp_path / "train.jsonl", Sampler())
    _build(tmp_path / "heldout.jsonl", Sampler(), generate_prompts("heldout", 20, 0))
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in (
        "Licence: Apache-2.0.", "`python -m toy --seed 1`", "| source policy | toy |", "temperature 1.0",
        "gold_reward/1",
        "### Yield per constraint", "### Score gap", "| required_words |", "| other_language |",
        "| heldout.jsonl | train.jsonl | 0 |", "Not recorded.", "chosen answer longer (words)",
    ):  # fmt: skip
        assert text in card, text
    pairs = _rows(tmp_path / "train.jsonl")
    longer = sum(len(words(p["chosen"])) > len(words(p["rejected"])) for p in pairs)
    assert f"| chosen answer longer (words) | {longer}/{len(pairs)} = " in card
    values = [p["log_prompt_perplexity"] for p in pairs]
    assert f"| {statistics.median(values):.2f} |" in card
    before = card
    write_card(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == before


def test_data_card_of_a_continuous_reward(tmp_path: Path) -> None:
    prompts = [{"id": f"q{i}", "prompt": f"q {i}?", "style": "ab"[i % 2], "topic": f"t{i // 3}"} for i in range(60)]
    prompts = [{**row, "log_prompt_perplexity": 2.0 + i / 10} for i, row in enumerate(prompts)]
    reward = from_spec("sentiment")
    noise = Noise((0.4, 0.2, 0.0), seed=5, by="perplexity")
    record = _build(tmp_path / "train.jsonl", Sampler(), prompts, reward=reward, min_gap=0.6, noise=noise)
    again = _build(tmp_path / "train.jsonl", Sampler(1), prompts, reward=from_spec("length"))  # samples are kept
    assert again["n_pairs"] > record["n_pairs"] and again["rule"].startswith("length/1")
    assert record == _build(tmp_path / "train.jsonl", Sampler(1), prompts, reward=reward, min_gap=0.6, noise=noise)
    pairs = _rows(tmp_path / "train.jsonl")
    gaps = [(p["score_chosen"] - p["score_rejected"]) * (-1 if p["flipped"] else 1) for p in pairs]
    assert min(gaps) >= 0.6 and len({round(gap, 3) for gap in gaps}) > 20
    topics = {name: v["paired"] / v["prompts"] for name, v in record["yield_by_topic"].items()}
    assert len(topics) == 20 and sum(v["paired"] for v in record["yield_by_topic"].values()) == len(pairs)
    path = tmp_path / "train.build.json"
    learned = {"accuracy": 0.81, "ci_low": 0.74, "ci_high": 0.87, "pairs": 120, "run": "20 steps of 8 pairs"}
    path.write_text(json.dumps(record | {"learnability": learned}), encoding="utf-8")
    write_card(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    flipped = sum(p["flipped"] for p in pairs)
    for text in (
        "# Preference pairs by a reward", "Rule: sentiment/1: VADER's compound score", "| score | pairs | q0 | q5 |",
        "| pairing | best-worst, scores at least 0.6 apart |", "| topics | 20 |", f"| pairs flipped | {flipped}/{len(pairs)} =",
        f"least, median, most | {min(topics.values()):.2f}, {statistics.median(topics.values()):.2f}, ",
        "| shares of pairs flipped | 0.4, 0.2, 0 (low, middle and high tercile of prompt perplexity) |",
        "| 0.810 [0.740, 0.870] on 120 held-out pairs after 20 steps of 8 pairs |",
    ):  # fmt: skip
        assert text in card, text


def test_build_from_chosen(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "prompt": f"{i}?", "chosen": f"Answer number {i}. It is short."} for i in range(5)]
    made = build_from_chosen(rows, "sampled_answer", tmp_path / "pairs.jsonl", seed=4, sampler=Sampler(), k=2)
    assert _rows(tmp_path / "pairs.jsonl") == made.pairs and len(made.pairs) == 5
    assert {pair["how"] for pair in made.pairs} == {"sampled_answer"}
    assert {pair["seed_rejected"] for pair in made.pairs} <= {4000, 4001}
    made = build_from_chosen(rows, "truncated", tmp_path / "pairs.jsonl", seed=4)
    assert _rows(tmp_path / "pairs.jsonl") == made.pairs
