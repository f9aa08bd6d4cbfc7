"""Parts of a matrix and values changed on the command line: what is worked on, and what stays as it is."""

import json
from typing import Any

import pytest
import yaml

from harness.plan.matrix import select
from harness.prepare import freeze
from trainers.common.errors import UserError

CONTROL = "pref_beta_scale: 0.5\n  - name: mean\n    rule: matched_mean\n    parent: foodpo\n"


def _labels(world: Any, **selection: Any) -> tuple[list[str], list[str]]:
    taken, parents = select(world.plan().specs, **selection)
    return [spec.label for spec in taken], [spec.label for spec in parents]


def test_methods_runs_and_seeds(world: Any) -> None:
    assert _labels(world, only=("foodpo",))[0] == ["foodpo seed 0", "foodpo seed 1"]
    assert _labels(world, exclude=("foodpo",), seeds=(1,))[0] == ["fixed seed 1"]
    first = world.plan().specs[0]
    assert _labels(world, only=(first.run_id,))[0] == [first.label]


def test_the_parent_of_a_selected_control_is_taken_in(world: Any) -> None:
    world.replace("pref_beta_scale: 0.5\n", CONTROL)
    taken, parents = _labels(world, only=("mean",), seeds=(1,))
    assert taken == ["foodpo seed 1", "mean seed 1"]
    assert parents == ["foodpo seed 1"]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (dict(only=("fodpo",)), ["--only fodpo", "did you mean 'foodpo'?"]),
        (dict(exclude=("x",)), ["--exclude x", "known: fixed, foodpo"]),
        (dict(seeds=(7,)), ["--seeds 7", "it has 0, 1"]),
        (dict(only=("fixed",), exclude=("fixed",)), ["leave no run of the 4"]),
    ],
)
def test_selections_of_nothing(world: Any, selection: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        select(world.plan().specs, **selection)
    assert all(word in str(caught.value) for word in words), caught.value


def test_set_is_the_same_as_writing_it_in_the_file(world: Any) -> None:
    scale, beta = "methods.foodpo.pref_beta_scale=0.7", "methods[0].pref_beta=0.2"
    changed = world.plan("training.learning_rate=1e-4", scale, beta, "seeds=[3]")
    freeze(changed)
    for old, new in (("5e-6", "1e-4"), ("0.5", "0.7"), ("pref_beta: 0.1", "pref_beta: 0.2"), ("[0, 1]", "[3]")):
        world.replace(old, new)
    assert [spec.run_id for spec in changed.specs] == [spec.run_id for spec in world.plan().specs]
    text = (world.output / "matrix.yaml").read_text()
    assert "# --set methods.foodpo.pref_beta_scale=0.7" in text
    assert yaml.safe_load(text)["seeds"] == [3]
    assert json.loads((world.output / "matrix.json").read_text())["config"]["training"]["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("training.learning_rte=1", ["--set training.learning_rte=1", "learning_rate"]),
        ("sedes=[1]", ["--set sedes=[1]", "did you mean 'seeds'?"]),
        ("seeds=two", ["--set seeds=two", "it must be a list"]),
        ("model.dtype=int8", ["--set model.dtype=int8", "'float32'"]),
        ("methods.foo.pref_beta=1", ["--set methods.foo.pref_beta=1", "a name: fixed, foodpo"]),
        ("methods[5].pref_beta=1", ["methods[5]", "an index below 2"]),
        ("name.first=x", ["--set name.first=x", "name is 'small', which has no keys below it"]),
        ("seeds", ["write key=value"]),
        ("=3", ["write key=value"]),
        ("seeds=[1", ["--set seeds=[1", "not YAML"]),
    ],
)
def test_mistakes_in_set_are_reported_at_the_set(world: Any, given: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        world.plan(given)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not world.output.exists()
