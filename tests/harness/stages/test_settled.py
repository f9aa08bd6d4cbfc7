"""What failed for good is left alone by the next call; a control that only lacked its parent is not."""

from typing import Any

from harness.stages.run import _settled

CONTROL = "pref_beta_scale: 0.5\n  - name: mean\n    rule: matched_mean\n    parent: foodpo\n"


def test_a_control_is_settled_only_with_its_parent(world: Any) -> None:
    world.replace("pref_beta_scale: 0.5\n", CONTROL)
    world.replace("seeds: [0, 1]", "seeds: [0]")
    plan, created = world.begun()
    stores = {spec.run_id: store for spec, store in zip(plan.specs, created, strict=True)}
    by_method = {spec.method: stores[spec.run_id] for spec in plan.specs}
    by_method["fixed"].fail("ValueError", "never works", "", transient=False)
    by_method["mean"].fail("ParentRunError", "the parent run did not finish", "", transient=False)
    by_method["foodpo"].fail("OSError", "No space left on device", "", transient=True)
    assert [spec.method for spec in _settled(plan.specs, stores)] == ["fixed"]
    by_method["foodpo"].fail("ValueError", "never works", "", transient=False)
    assert [spec.method for spec in _settled(plan.specs, stores)] == ["fixed", "foodpo", "mean"]
