"""Kinds of benchmark in the matrix file: their defaults, what they refuse, and what identifies them."""

import json
import re
from typing import Any

import pytest

from harness.plan.benchmarks import metrics_of

BENCHMARK = """\
    - name: constraints
      prompts: prompts.jsonl
"""
OWN = """\
from evals.benchmarks.base import AnswerBenchmark
from evals.benchmarks.rows import load_prompts


class Shout(AnswerBenchmark):
    kind = "shout"
    metrics = {"upper": True}

    def __init__(self, loud: bool = True) -> None:
        self.loud = loud

    def load(self, path, limit):
        return load_prompts(path, limit)

    def values(self, row, answer):
        return {"upper": float(answer["text"].isupper())}
"""


def add(world: Any, text: str) -> int:
    """Add a benchmark; returns the line it begins on."""
    lines = "".join(f"      {line}\n" if i else f"    - {line}\n" for i, line in enumerate(text.splitlines()))
    return int(world.replace(BENCHMARK, BENCHMARK + lines)) + 2


def entry(world: Any, name: str) -> dict[str, Any]:
    return next(one.model_dump(mode="json", exclude_unset=True) for one in world.plan().benchmarks if one.name == name)


def test_defaults_of_the_kinds(world: Any) -> None:
    (world.root / "g.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "#### 2"}) + "\n")
    world.replace("train: pairs.jsonl", "train: pairs.jsonl\n  heldout: pairs.jsonl")
    add(world, "name: kl\nkind: kl\nprompts: prompts.jsonl")
    add(world, "name: mood\nkind: kl\nreward: length\nprompts: prompts.jsonl")
    add(world, "name: held\nkind: preference\nbeta0: 0.05\nnoise: true")
    add(world, "name: math\nkind: gsm8k\nprompts: g.jsonl\nsamples: 2")
    assert {key: entry(world, "kl")[key] for key in ("temperature", "samples", "max_new_tokens")} == {
        "temperature": 1.0, "samples": 4, "max_new_tokens": 128,
    }  # fmt: skip
    metrics = metrics_of(world.plan().benchmarks)
    assert "gold_reward" in (metrics["mood"] or ()) and "gold_reward" not in (metrics["kl"] or ())
    held = entry(world, "held")
    assert held["params"] == {"beta0": 0.05} and held["noise"] is True and held["max_new_tokens"] == 0
    assert held["prompts"] == str(world.pairs)
    assert entry(world, "math")["max_new_tokens"] == 256 and entry(world, "math")["samples"] == 2
    constraints = entry(world, "constraints")
    assert "noise" not in constraints and "params" not in constraints and constraints["kind"] == "constraints"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name: a\nkind: klx\nprompts: prompts.jsonl",
            ["kind is 'klx'", "unknown benchmark kind", "did you mean 'kl'?"],
        ),
        (
            "name: a\nkind: gold_reward\nprompts: prompts.jsonl\nreward: sentimet",
            ["evaluation.benchmarks[1].reward", "unknown reward 'sentimet'", "did you mean 'sentiment'"],
        ),
        ("name: a\nkind: gold_reward\nprompts: prompts.jsonl", ["needs the parameter 'reward'", "add it"]),
        ("name: a\nkind: kl", ["evaluation.benchmarks[1].prompts is missing"]),
        ("name: a\nkind: preference", ["prompts is missing, and so is data.heldout"]),
        ("name: a\nkind: kl\nprompts: nope.jsonl", ["'nope.jsonl'", "no such file"]),
        (
            "name: a\nkind: kl\nprompts: prompts.jsonl\ntemperature: 0.5",
            ["temperature is 0.5", "kind 'kl' has no such"],
        ),
        ("name: a\nkind: preference\nprompts: pairs.jsonl\nbeta: 1", ["unknown key", "beta", "did you mean 'beta0'?"]),
        ("name: a\nkind: preference\nprompts: pairs.jsonl\nbeta0: -1", ["beta0 is -1", "above 0"]),
        (
            "name: a\nkind: preference\nprompts: prompts.jsonl",
            ["prompts.jsonl:1", "no known format of preference data"],
        ),
        ("name: a\nkind: gsm8k\nprompts: prompts.jsonl", ["prompts.jsonl:1", "'answer'"]),
        (
            "name: a\nkind: prompts\nprompts: prompts.jsonl\nmax_new_tokens: 4096",
            ["4096", "no room", "max_model_len 1024"],
        ),
        ("name: a\nkind: own.py:Shout\nprompts: prompts.jsonl", ["kind is 'own.py:Shout'", "no such file"]),
        ("name: a\nkind: kl\nreward: lenght\nprompts: prompts.jsonl", ["reward", "did you mean 'length'?"]),
        ("name: a\nkind: kl\nprompts: prompts.jsonl\nsamples: 0", ["samples is 0", "greater than 0"]),
        ("name: a\nprompts: prompts.jsonl\nsampels: 2", ["unknown key", "sampels", "did you mean 'samples'?"]),
    ],
)
def test_mistakes_name_the_line_and_the_fix(world: Any, text: str, words: list[str]) -> None:
    line = add(world, text)
    error = world.error()
    assert all(word in error for word in words), error
    where = re.match(r".*?([^/]+):(\d+): ", error)
    assert where is not None, error
    file, number = where[1], int(where[2])
    assert number in range(line, line + len(text.splitlines())) if file == "m.yaml" else number == 1, error


def test_a_kind_of_ones_own_is_found_beside_the_matrix_and_identified_by_its_code(world: Any) -> None:
    own = world.root / "own.py"
    own.write_text(OWN)
    add(world, "name: shout\nkind: own.py:Shout\nprompts: prompts.jsonl\nloud: false")
    first = entry(world, "shout")
    assert first["kind"] == f"{own}:Shout" and first["params"] == {"loud": False}
    own.write_text(OWN.replace("isupper()", "istitle()"))
    assert entry(world, "shout")["fingerprint"] != first["fingerprint"]


REWARD = """\
from evals.rewards.base import Reward


class Marks(Reward):
    rule = "marks/1: exclamation marks"

    def score(self, rows, answers):
        return [answer.count("!") for answer in answers]
"""


def test_a_reward_is_found_beside_the_matrix_and_identified_by_its_code(world: Any) -> None:
    own = world.root / "own.py"
    own.write_text(REWARD)
    add(world, 'name: marks\nkind: gold_reward\nreward: "own.py:Marks"\nprompts: prompts.jsonl')
    first = entry(world, "marks")
    assert first["params"] == {"reward": f"{own}:Marks"}
    own.write_text(REWARD.replace('"!"', '"?"'))
    assert entry(world, "marks")["fingerprint"] != first["fingerprint"]
    own.write_text(REWARD)
    (world.root / "elsewhere").mkdir()
    own.rename(world.root / "elsewhere" / "own.py")
    world.replace("own.py:Marks", "elsewhere/own.py:Marks")
    assert entry(world, "marks")["fingerprint"] == first["fingerprint"]  # where it lies does not count
    world.replace('reward: "elsewhere/own.py:Marks"', "reward: {kind: length, target: 5}")
    target = entry(world, "marks")["fingerprint"]
    world.replace("target: 5", "target: 6")
    assert len({entry(world, "marks")["fingerprint"], target, first["fingerprint"]}) == 3


def test_training_prompts_among_the_benchmarks_are_on_record(world: Any) -> None:
    add(world, "name: held\nkind: preference\nprompts: pairs.jsonl")
    plan = world.plan()
    assert plan.heldout_overlap == 4
    counts = plan.run_record(plan.specs[0]).data.contamination
    assert counts == {"constraints": {"exact": 0, "near": 0}, "held": {"exact": 4, "near": 0}}


def test_the_chat_template_of_a_task_is_part_of_its_identity(world: Any) -> None:
    world.replace("evaluation:\n", "evaluation:\n  lm_eval:\n    - {task: capitals, limit: 4}\n")
    plain = entry(world, "capitals")
    assert not {"apply_chat_template", "fewshot_as_multiturn", "system_instruction"} & set(plain)
    world.replace("limit: 4}", "limit: 4, apply_chat_template: true}")
    chat = entry(world, "capitals")
    assert chat["apply_chat_template"] is True and chat["fewshot_as_multiturn"] is True
    assert chat["fingerprint"] != plain["fingerprint"]
    world.replace("apply_chat_template: true}", "fewshot_as_multiturn: false}")
    assert entry(world, "capitals")["fingerprint"] == plain["fingerprint"], "it says nothing without the template"
    world.replace("fewshot_as_multiturn: false}", "aply_chat_template: true}")
    assert "did you mean 'apply_chat_template'?" in world.error()
