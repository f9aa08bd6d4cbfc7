"""Rewards by name, from a file, and from judges; what they refuse."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks import registry
from evals.judges.base import Judge, Question, Request
from evals.judges.cache import Cost, Reply
from evals.judges.registry import build as build_judge
from evals.rewards.base import Reward, RewardError, Row, scores
from evals.rewards.judge import JudgeReward
from evals.rewards.registry import build, from_spec

OUTSIDE = '''
from evals.rewards.base import Reward


class Exclaims(Reward):
    """Exclamation marks, each worth `points`."""

    def __init__(self, points=1):
        self.rule = f"exclaims/1: {points} for every exclamation mark"
        self.points = points

    def score(self, rows, answers):
        return [self.points * answer.count("!") for answer in answers]


class Nameless(Reward):
    def score(self, rows, answers):
        return [0.0] * len(answers)


class NoReward:
    pass
'''


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(OUTSIDE, encoding="utf-8")
    return path


ROWS = [{"prompt": "Say it.", "constraints": [{"kind": "no_commas", "args": {}}]}] * 3
#: With the compound scores that the README of vaderSentiment gives them.
ANSWERS = ["VADER is smart, handsome, and funny.", "VADER is not smart, handsome, nor funny.", "Today SUX!"]
COMPOUND = [0.8316, -0.7424, -0.5461]


@pytest.mark.parametrize(
    ("name", "params", "expected", "rule"),
    [
        ("sentiment", {}, COMPOUND, "sentiment/1"),
        ("constraints", {}, [0.0, 0.0, 1.0], "gold_reward/1"),
        ("verifiable", {}, [0.0, 0.0, 1.0], "judge: "),
        ("length", {}, [6.0, 7.0, 2.0], "length/1: words"),
        ("length", {"target": 3}, [-3.0, -4.0, -1.0], "from 3"),
    ],
)
def test_rewards_by_name(name: str, params: dict[str, Any], expected: list[float], rule: str) -> None:
    reward = build(name, params)
    for row in ROWS:
        reward.check(row)
    assert scores(reward, ROWS, ANSWERS) == pytest.approx(expected)
    assert rule in reward.identity
    assert from_spec({"kind": name, **params}).identity == reward.identity


def test_a_class_of_ten_lines_from_outside(outside: Path) -> None:
    reward = build(f"{outside}:Exclaims", {"points": 2})
    assert scores(reward, ROWS, ["Hi!", "Oh!!", "no"]) == [2.0, 4.0, 0.0]
    before = reward.identity
    assert before.startswith("exclaims/1: 2 for every exclamation mark (code ")
    outside.write_text(OUTSIDE + "\n# other code\n", encoding="utf-8")
    assert build(f"{outside}:Exclaims", {"points": 2}).identity != before


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sentimant", {}, "unknown reward 'sentimant'; did you mean 'sentiment'"),
        ("zzz", {}, "known rewards: constraints, length, llm, reward_model, sentiment, verifiable"),
        ("length", {"targt": 3}, "has no parameter 'targt'; did you mean 'target'"),
        ("length", {"target": 0}, "reward 'length': target is 0; it must be above 0"),
        ("reward_model", {}, "needs the parameter 'model'"),
        ("FILE:Nameless", {}, "set 'rule'"),
        ("FILE:NoReward", {}, "must subclass evals.rewards.base.Reward or evals.judges.base.Judge"),
        ("FILE:Absent", {}, "has no class 'Absent'"),
        ("absent.py:Reward", {}, "no such file absent.py"),
    ],
)
def test_what_is_refused(outside: Path, name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(RewardError, match=message):
        build(name.replace("FILE", str(outside)), params)


@pytest.mark.parametrize("spec", [None, 3, {"target": 3}, {"kind": 1}])
def test_a_reward_is_a_name_or_a_mapping(spec: Any) -> None:
    with pytest.raises(RewardError, match="give a name, or a mapping with kind"):
        from_spec(spec)


class Fixed(Reward):
    rule = "fixed"

    def __init__(self, found: Sequence[Any]) -> None:
        self.found = found

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> Sequence[Any]:
        return self.found


def test_scores_are_checked() -> None:
    assert scores(Fixed([1, None, -0.5]), ROWS, ANSWERS) == [1.0, None, -0.5]
    for found, message in (([1.0], "1 scores for 3 answers"), ([math.nan] * 3, "nan"), (["high"] * 3, "'high'")):
        with pytest.raises(RewardError, match=message):
            scores(Fixed(found), ROWS, ANSWERS)


class Sometimes(Judge):
    """No verdict on empty answers; down for the answer "down"."""

    def __init__(self, compares: bool = False) -> None:
        self.compares = compares

    def identity(self) -> dict[str, Any]:
        return {"kind": "sometimes"}

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        for i, request in reversed(list(enumerate(requests))):
            (answer,) = request.answers
            yield i, Reply(float(len(answer)) if answer else None, "empty", final=bool(answer != "down"))


def test_judges_are_rewards() -> None:
    reward = JudgeReward(Sometimes())
    assert scores(reward, ROWS, ["abc", "", "a"]) == [3.0, None, 1.0]
    with pytest.raises(RewardError, match="compares two answers"):
        JudgeReward(Sometimes(compares=True))
    with pytest.raises(RewardError, match="'constraints' is missing or empty"):
        build("verifiable").check({"prompt": "p"})


def test_the_verifiable_judge_takes_any_reward(outside: Path) -> None:
    judge = build_judge("verifiable", {"reward": "sentiment"})
    assert judge.context_keys == () and "sentiment/1" in judge.identity()["rule"]
    requests = [Request(Question("p", {}), (answer,)) for answer in ANSWERS]
    replies = dict(judge.ask(requests, Cost()))
    assert [round(replies[i].value or 0.0, 4) for i in range(3)] == COMPOUND
    assert build_judge("verifiable", {"reward": "constraints"}).identity() == build_judge("verifiable").identity()


@pytest.mark.parametrize(
    ("kind", "params", "by_rule", "said"),
    [
        ("constraints", {}, True, "share of the prompt's constraints"),
        ("gold_reward", {"reward": "sentiment"}, True, "VADER's compound score of the answer (vaderSentiment "),
        ("gold_reward", {"reward": "verifiable"}, True, "score of the judge VerifiableJudge"),
        ("gsm8k", {}, True, ""),
        ("prompts", {}, False, ""),
        ("kl", {}, False, ""),
    ],
)
def test_a_benchmark_says_what_scores_it(kind: str, params: dict[str, Any], by_rule: bool, said: str) -> None:
    found = registry.build(kind, params)
    assert found.by_rule is by_rule
    assert str(dict(found.descriptions).get("gold_reward", "")).startswith(said)
