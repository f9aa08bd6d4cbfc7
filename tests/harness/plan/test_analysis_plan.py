"""The analysis plan: frozen whole before the first step, printed with its hash, and no option makes a later choice declared."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.plan.analysis import analysis_plan, frozen_plan, registered
from harness.prepare import freeze
from harness.state.store import RunStore
from reports.runs.records import load_matrix
from reports.schema import Summary
from reports.summary import build_summary
from reports.verdict.plan import differences, plan_state
from tests.reports.builder import FIXED, FOODPO, write_run, write_scores

CLAIM = "claims:\n  - {name: foo, method: foodpo, against: fixed, metric: constraints/gold_reward, min_effect: 0.02}\n"


def finished(world: Any, created: str = "2100-01-01T00:00:00+00:00") -> Any:
    """The world's output as its run-matrix leaves it, with scores made up; created long after the freezing."""
    import numpy as np

    world.replace("seeds: [0, 1]", "seeds: [0, 1, 2, 3, 4]")
    world.write(world.text + CLAIM)
    plan = world.plan()
    world.output.mkdir()
    freeze(plan)
    for spec in plan.specs:
        made = write_run(world.output, FIXED if spec.method == "fixed" else FOODPO, spec.seed)
        (world.output / "runs" / made).rename(world.output / "runs" / spec.run_id)
        path = world.output / "runs" / spec.run_id / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"run_id": spec.run_id, "created": created}))
    write_scores(world.output / "reference", "reference", 0.0, 16, np.random.default_rng(9), np.full(16, 0.5))
    return plan


def again(world: Any, *overrides: str) -> Summary:
    """What run-matrix does on a finished matrix, without the pages: freeze, and summarise."""
    plan = world.plan(*overrides)
    freeze(plan)
    return build_summary(load_matrix(world.output, [spec.run_id for spec in plan.specs], plan.config.model_dump()))


def reasons(summary: Summary) -> list[str | None]:
    """Why the methods' comparisons with the baseline on the primary metric are exploratory."""
    primary = next(metric for metric in summary.metrics if metric.primary)
    return [c.exploratory_because for c in primary.comparisons if c.against == summary.baseline.value]


def test_a_primary_metric_chosen_afterwards_is_exploratory(world: Any) -> None:
    """`--set report.primary=... --set report.baseline=...` on a finished matrix changed what was called declared."""
    finished(world)
    planned = again(world)
    assert planned.tests.declared == 1 and planned.claims.changes == [] and planned.claims.judged[0].declared
    assert reasons(planned) == [None] and planned.verdict.kind == "declared"
    chosen = again(world, "report.primary=constraints/all_satisfied")
    why = "not as in the frozen plan (primary: constraints/gold_reward -> constraints/all_satisfied)"
    assert chosen.primary.value == "constraints/all_satisfied" and chosen.tests.declared == 0
    assert chosen.verdict.kind == "exploratory" and "all_satisfied" in str(chosen.verdict.because)
    assert reasons(chosen) == [why]
    assert {c.family for m in chosen.metrics for c in m.comparisons} == {"exploratory"}
    assert "primary: constraints/gold_reward -> constraints/all_satisfied" in chosen.claims.changes[0]
    assert chosen.claims.judged[0].declared, "a claim names its own metric"
    turned = again(world, "report.baseline=foodpo")
    assert turned.tests.declared == 0 and "baseline: fixed -> foodpo" in str(reasons(turned)[0])
    assert again(world).tests.declared == 1


def test_a_plan_frozen_after_the_first_run_declares_nothing(world: Any) -> None:
    finished(world, created="2020-01-01T00:00:00+00:00")
    found = again(world)
    assert found.tests.declared == 0 and "after the first run was created" in str(reasons(found)[0])
    (world.output / "claims.json").unlink()
    gone = again(world)
    assert not (world.output / "claims.json").exists() and gone.claims.sha256 is None
    late = again(world, "report.primary=constraints/all_satisfied")
    assert late.tests.declared == 0, "without a plan the first call's report section stands for it"


def test_an_old_output_without_a_plan_keeps_its_first_primary(world: Any) -> None:
    finished(world)
    for name in ("claims.json", "matrix.json"):
        record = json.loads((world.output / name).read_text())
        for key in ("plan", "first_report"):
            record.pop(key, None)
        (world.output / name).write_text(json.dumps(record))
    (world.output / "claims.json").unlink()
    assert again(world).tests.declared == 1
    assert again(world, "report.primary=constraints/all_satisfied").tests.declared == 0


@pytest.mark.parametrize(
    ("old", "new", "key", "claim"),
    [
        ("pref_beta_scale: 0.5", "pref_beta_scale: 0.6", "methods.foodpo", True),
        ("pref_beta: 0.1", "pref_beta: 0.2", "methods.fixed", True),
        ("prompts: prompts.jsonl", "prompts: prompts.jsonl\n      max_new_tokens: 9", "benchmarks.constraints", True),
        ("learning_rate: 5e-6", "learning_rate: 6e-6", "training", True),
        ("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 3", "data", True),
        ("    pref_beta_scale: 0.5\n", "    pref_beta_scale: 0.5\n  - name: learnable\n", "methods.learnable", False),
        ("primary: constraints/gold_reward", "primary: constraints/all_satisfied", "primary", False),
    ],
)
def test_what_differs_reaches_what_rests_on_it(world: Any, old: str, new: str, key: str, claim: bool) -> None:
    before = analysis_plan(world.plan())
    world.replace(old, new)
    (change,) = differences(before, analysis_plan(world.plan()))
    assert change.key == key
    assert change.reaches(("foodpo", "fixed"), "constraints", False) is claim
    assert change.reaches(("foodpo", "fixed"), "constraints", True) is (claim or key == "primary")


def test_the_prompts_are_covered_by_hash_and_the_engine_is_not(world: Any) -> None:
    before = analysis_plan(world.plan())
    world.write(world.text + "  # a comment\n")
    world.replace("evaluation:\n", "evaluation:\n  engine: {dtype: float32}\n")
    assert differences(before, analysis_plan(world.plan())) == ()
    world.prompts.write_text(world.prompts.read_text().replace("briefly", "shortly"), encoding="utf-8")
    (change,) = differences(before, analysis_plan(world.plan()))
    assert change.key == "benchmarks.constraints" and "prompts sha256" in change.new


def test_the_plan_is_printed_with_its_hash_and_what_changed(world: Any, cli: Any) -> None:
    world.write(world.text + CLAIM)
    first = cli("plan", world.config)
    assert first.returncode == 0 and "not frozen yet" in first.stdout and not world.output.exists()
    text = registered("small", frozen_plan(world.plan()))
    assert text in first.stdout and max(map(len, text.splitlines())) <= 80
    for part in (
        "claims.foo: foodpo against fixed on",
        "seeds: 0, 1",
        "primary: constraints/gold_reward",
        "failed runs:",
    ):
        assert part in text
    world.output.mkdir()
    freeze(world.plan())
    kept = json.loads((world.output / "claims.json").read_text())
    assert f"sha256 {kept['sha256']}" in text, "the hash registered before is the one that is frozen"
    world.replace("pref_beta_scale: 0.5", "pref_beta_scale: 0.6")
    found = json.loads(cli("plan", world.config, "--output", world.output, "--json").stdout)
    assert found["sha256"] == kept["sha256"] and found["frozen"] == kept["frozen"] and len(found["changes"]) == 1
    shown = cli("plan", world.config, "--output", world.output).stdout
    assert "changed since; what rests on it is exploratory: methods.foodpo: " in shown
    (world.output / "claims.json").write_text(json.dumps(kept | {"plan": {}}), encoding="utf-8")
    broken = cli("plan", world.config, "--output", world.output)
    assert broken.returncode == 2 and "changed after freezing" in broken.stderr


def test_a_declared_look_adds_seeds_without_a_change(world: Any, tmp_path: Path) -> None:
    """Draws of added seeds are new lines of the plan; seeds and looks answer for them."""
    world.replace("train: pairs.jsonl", "train: pairs.jsonl\n  max_train_pairs: 3\n  resample: per_seed")
    plan = world.plan()
    world.output.mkdir()
    freeze(plan)
    assert {key for key in analysis_plan(plan) if key.startswith("data")} == {"data", "data.0", "data.1"}
    world.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    freeze(world.plan())
    for spec in plan.specs:
        RunStore(plan.run_dir(spec)).create(plan.run_record(spec))
    state = plan_state(load_matrix(world.output, [spec.run_id for spec in plan.specs], plan.config.model_dump()))
    assert [change.key for change in state.changes] == ["data.2"]
    assert state.why(("foodpo", "fixed"), "constraints", True) is None
