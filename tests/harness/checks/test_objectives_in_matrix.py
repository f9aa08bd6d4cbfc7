"""KTO and ORPO as methods of a matrix: what they take, and which mistakes are refused before anything is trained."""

from typing import Any

import pytest


def test_an_objective_is_part_of_a_runs_identity(world: Any) -> None:
    before = {spec.method: spec.run_id for spec in world.plan().specs}
    world.replace(
        "pref_beta: 0.1", "pref_beta: 0.1\n    rule: fixed\n    objective: kto\n    training: {desirable_weight: 1.5}"
    )
    plan = world.plan()
    after = {spec.method: spec.run_id for spec in plan.specs}
    assert before["fixed"] != after["fixed"] and before["foodpo"] == after["foodpo"]
    spec = next(spec for spec in plan.specs if spec.method == "fixed")
    assert spec.params["pref_loss"] == "kto" and plan.train_job(spec)["objective"] == "kto"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "pref_beta: 0.1",
            "rule: beta_head\n    objective: kto",
            ["beta_head", "no meaning for objective 'kto'", "fixed or foodpo"],
        ),
        ("pref_beta: 0.1", "objective: orpo\n    pref_loss: ipo", ["pref_loss is 'ipo'", "orpo"]),
        ("pref_beta: 0.1", "objective: kro", ["methods[0].objective", "'kro'"]),
        (
            "pref_beta: 0.1",
            "training: {desirable_weight: 1.5}",
            ["unknown key methods[0].training.desirable_weight", "DPOConfig"],
        ),
        (
            "pref_beta: 0.1",
            "objective: kto\n    training: {per_device_train_batch_size: 1}",
            ["per_device_train_batch_size is 1", "KL term"],
        ),
        ("max_length: 256", "max_length: 256\n  ld_alpha: 0.5", []),
    ],
)
def test_mistakes(world: Any, old: str, new: str, words: list[str]) -> None:
    if not words:  # a DPO field for all methods, one of which is not DPO
        world.replace(old, new)
        world.replace("pref_beta_scale: 0.5", "pref_beta_scale: 0.5\n    objective: orpo")
        words = ["training.ld_alpha", "ORPOConfig", "other methods"]
    else:
        world.replace(old, new)
    world.refuses(*words)
