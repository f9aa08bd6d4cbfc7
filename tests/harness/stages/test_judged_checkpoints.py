"""Judges of intermediate checkpoints (`checkpoints: true`), and of constraint kinds from outside the package."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.stages.test_judges_in_matrix import (
    PROMPTS,
    VERIFIABLE,
    add,
    answers,
    evaluated,
    judge,
    judged,
    record,
    rows,
)
from trainers.common import scores_schema

BENCHMARK = "      prompts: prompts.jsonl\n"
JUDGED = "{name: gold, kind: verifiable, checkpoints: true}"


def keep(plan: Any, spec: Any, step: int, text: str) -> Path:
    """The policy of a run after `step`, with answers and scores on the first benchmark as an evaluation leaves them."""
    from harness.state.policies import snapshot_policies

    folder = Path(plan.run_dir(spec)) / "snapshots" / f"step-{step}"
    folder.mkdir(parents=True)
    (folder / "snapshot.json").write_text(json.dumps({"step": step}))
    policy = next(p for p in snapshot_policies(plan, [spec]) if p.out == folder)
    answers(policy, plan.benchmarks[0], lambda prompt: f"{text} {prompt}")
    return folder


@pytest.mark.parametrize(
    ("evaluation", "judges", "words"),
    [
        ("", JUDGED, ["judges[0].checkpoints is true", "evaluation.checkpoints is not set; add it"]),
        ("  checkpoints: [2]\n", "{name: a, kind: verifiable, checkpoints: some}", ["judges[0].checkpoints is 'some'"]),
        (
            "  checkpoints: [2]\n  checkpoint_benchmarks: [kl]\n",
            JUDGED,
            ["judges[0].checkpoints is true", "checkpoint_benchmarks holds nothing that it judges (constraints)"],
        ),
    ],
)
def test_mistakes(world: Any, evaluation: str, judges: str, words: list[str]) -> None:
    kl = "    - {name: kl, kind: kl, prompts: prompts.jsonl}\n"
    world.replace(BENCHMARK, BENCHMARK + kl + evaluation)
    line = add(world, judges)
    world.refuses(f"{world.config}:{line}:", *words)


def test_only_a_judge_that_is_told_to_sees_policies_on_the_way(world: Any) -> None:
    world.replace(BENCHMARK, BENCHMARK + "  checkpoints: [2, 4]\n")
    add(world, VERIFIABLE)
    plan = evaluated(world)
    early, late = (keep(plan, plan.specs[0], step, text) for step, text in ((2, "a, b"), (4, "a b")))
    assert judge(plan) == []
    before = rows(plan, "constraints@gold")
    assert not scores_schema.scores_path(early, "constraints@gold").exists()

    world.replace(VERIFIABLE, JUDGED)
    plan = world.plan()
    assert judge(plan) == []
    run = plan.specs[0].run_id
    extra = [row for row in rows(plan, "constraints@gold") if row not in before]
    assert {(row["first"], row["second"]) for row in extra} == {(f"{run}@{n}", "reference") for n in (2, 4)}
    assert len(extra) == 2 * len(PROMPTS)
    for folder, rate in ((early, 0.5), (late, 1.0)):  # the reference's answers all hold a comma
        found = scores_schema.read_scores(folder, "constraints@gold")
        assert found is not None and found["metrics"]["win_rate"]["value"] == rate
    assert judge(world.plan()) == [] and rows(plan, "constraints@gold") == before + extra

    world.replace(JUDGED, VERIFIABLE)
    assert judge(world.plan()) == []
    assert rows(plan, "constraints@gold") == before
    assert not scores_schema.scores_path(early, "constraints@gold").exists(), "scores of another judging must not stay"


def test_the_report_has_their_scores_and_its_win_rates_are_of_final_policies(world: Any) -> None:
    from reports.compare.judges import judges_summary
    from reports.runs.checkpoints import snapshots
    from reports.runs.records import load_matrix

    world.replace(BENCHMARK, BENCHMARK + "  checkpoints: [2]\n")
    add(world, JUDGED)
    plan = evaluated(world)
    keep(plan, plan.specs[0], 2, "a b")
    assert judge(plan) == []
    matrix = load_matrix(plan.output, [spec.run_id for spec in plan.specs], plan.config.model_dump())
    points = snapshots(next(run for run in matrix.runs if run.run_id == plan.specs[0].run_id))
    assert [(p.step, p.scores["constraints@gold"].metrics["win_rate"]["value"]) for p in points if not p.final] == [
        (2, 1.0)
    ]
    (entry,) = judges_summary(matrix)
    methods = [method.label for method in entry.judges[0].against_reference]
    policies = [p.run_id for m in entry.judges[0].against_reference for p in m.policies]
    assert sorted(policies) == sorted(spec.run_id for spec in plan.specs)
    assert sorted(methods) == ["fixed", "foodpo"]


def test_clean_lists_what_a_removed_judge_left(world: Any) -> None:
    from harness.state.clean import leftovers
    from harness.state.records import FrozenMatrix

    world.replace(BENCHMARK, BENCHMARK + "  checkpoints: [2]\n")
    add(world, JUDGED)
    plan = evaluated(world)
    folder = keep(plan, plan.specs[0], 2, "a b")
    assert judge(plan) == []
    frozen = FrozenMatrix(name="small", runs=[spec.run_id for spec in plan.specs], config=plan.config.model_dump())
    assert not [left for left in leftovers(plan.output, frozen) if "@" in left.path.name]
    frozen.config["evaluation"]["judges"] = []
    left = [one.path for one in leftovers(plan.output, frozen) if "@" in one.path.name]
    # the record, its rows, and the scores of each run, the reference and the checkpoint
    assert len(left) == 2 + len(plan.specs) + 2 and scores_schema.scores_path(folder, "constraints@gold") in left


@pytest.mark.parametrize("name", ["comparisons/constraints@gold.jsonl", "comparisons/constraints@gold.json", "scores"])
def test_damaged_comparisons_and_scores_are_made_anew(world: Any, name: str) -> None:
    add(world, VERIFIABLE)
    plan = judged(world)
    scores = scores_schema.scores_path(plan.run_dir(plan.specs[1]), "constraints@gold")
    path = scores if name == "scores" else plan.output / name
    whole, changed = path.read_bytes(), path.stat().st_mtime_ns
    assert judge(world.plan()) == [] and path.stat().st_mtime_ns == changed, "what is whole is not made again"
    path.write_bytes(whole.replace(b"0.", b"1.", 1) if b"0." in whole else whole.replace(b"1", b"2", 1))
    assert judge(world.plan()) == []
    if not name.endswith(".json"):  # that one also counts the replies that came from the cache
        assert path.read_bytes() == whole
    assert (plan.output / "quarantine" / path.relative_to(plan.output)).with_name(f"{path.name}.1").is_file()


OUTSIDE = """\
from evals.benchmarks.constraints import ConstraintBenchmark
from evals.constraints import Constraint, register


@register("ends_with_number")
class EndsWithNumber(Constraint):
    def describe(self, args):
        return "End with a number."

    def check(self, text, args):
        return text[-1].isdigit()


class Numbered(ConstraintBenchmark):
    pass
"""


def test_constraint_kinds_from_outside_are_known_to_the_judges_process(world: Any) -> None:
    """And answers are checked again when their code changes, though the judge and the answers are the same."""
    from tests.harness.conftest import write_jsonl

    (world.root / "own.py").write_text(OUTSIDE, encoding="utf-8")
    world.replace("name: constraints\n", "name: constraints\n      kind: own.py:Numbered\n")
    add(world, VERIFIABLE)
    asked = [{**p, "constraints": [{"kind": "ends_with_number", "args": {}}]} for p in PROMPTS]
    write_jsonl(world.prompts, asked)
    plan = judged(world)
    run = plan.run_dir(plan.specs[0])
    found = scores_schema.read_scores(run, "constraints@gold")
    assert found is not None and found["metrics"]["score"]["value"] == 1.0

    (world.root / "own.py").write_text(OUTSIDE.replace("text[-1].isdigit()", "not text[-1].isdigit()"))
    plan = judged(world)
    found = scores_schema.read_scores(run, "constraints@gold")
    assert found is not None and found["metrics"]["score"]["value"] == 0.0
    assert record(plan, "constraints@gold")["judges"]["gold"]["tally"]["cached"] == 0
