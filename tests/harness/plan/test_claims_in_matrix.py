"""Claims in the matrix file: checked before anything is trained, frozen once, never overwritten."""

import json
from typing import Any

import pytest

CLAIM = """
claims:
  - {name: foo-wins, method: foodpo, against: fixed, metric: constraints/gold_reward, min_effect: 0.02}
"""


def test_claims_are_frozen_once(world: Any) -> None:
    from harness.prepare import freeze
    from reports.verdict.claims import parse_claims, thaw, verify

    world.write(world.text + CLAIM)
    world.output.mkdir()
    freeze(world.plan())
    path = world.output / "claims.json"
    before = path.read_bytes()
    claims, _ = thaw(json.loads(before))
    assert [(claim.name, claim.min_effect) for claim in claims] == [("foo-wins", 0.02)]
    assert json.loads(before)["seeds"] == list(world.plan().config.seeds) and json.loads(before)["looks"] == []
    world.replace("min_effect: 0.02", "min_effect: 0.01")
    plan = world.plan()
    freeze(plan)
    assert path.read_bytes() == before
    now = parse_claims([claim.model_dump() for claim in plan.config.claims])
    assert "min_effect 0.02 -> 0.01" in verify(json.loads(before), now)[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("method: foodpo", "method: fodpo", ["claims[0].method is 'fodpo'", "did you mean 'foodpo'?"]),
        ("against: fixed", "against: foodpo", ["claims[0].against is 'foodpo'", "the claim's own method"]),
        ("constraints/gold_reward,", "constraints/gold_rewad,", ["claims[0].metric", "did you mean 'gold_reward'?"]),
        (
            "constraints/gold_reward,",
            "constrain/gold_reward,",
            ["write benchmark/metric", "did you mean 'constraints'?"],
        ),
        ("min_effect: 0.02", "asserts: perplexity", ["needs the control matched_mean", "parent: foodpo"]),
        ("min_effect: 0.02", "asserts: better", ["claims[0].asserts", "'better'"]),
        ("min_effect: 0.02", "min_effct: 0.02", ["unknown key claims[0].min_effct", "did you mean 'min_effect'?"]),
        ("min_effect: 0.02", "min_effect: -1", ["claims[0].min_effect", "-1"]),
        (
            "min_effect: 0.02",
            "at: matched_kl, window: [2, 1]",
            ["claims[0].window is [2.0, 1.0]", "two rising numbers"],
        ),
        ("min_effect: 0.02", "at: matched_kl, window: [2]", ["claims[0].window", "2 items"]),
        (
            "min_effect: 0.02",
            "window: [1, 2]",
            ["claims[0].window is [1.0, 2.0] and at is 'final'", "set at: matched_kl"],
        ),
        ("\nclaims:", "\nlooks: [6, 10]\nclaims:", ["looks is [6, 10]", "give as many seeds as one of the looks has"]),
        ("\nclaims:", "\nlooks: [10, 6]\nclaims:", ["give rising numbers of seeds, the first at least 5"]),
        ("\nclaims:", "\nlooks: [3, 6]\nclaims:", ["give rising numbers of seeds, the first at least 5"]),
    ],
)
def test_mistakes_in_claims(world: Any, old: str, new: str, words: list[str]) -> None:
    world.write(world.text + CLAIM.replace(old, new))
    world.refuses(*words)
