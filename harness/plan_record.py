"""What `run-matrix --dry-run --json` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.estimate import estimate
from harness.graph import stages
from harness.matrix import RunSpec
from harness.survey import survey

if TYPE_CHECKING:
    from harness.plan import Plan


def plan_record(plan: Plan, selected: Sequence[RunSpec]) -> dict[str, Any]:
    """The selected runs with what is done of each, the stages, and what the rest would cost (seconds, bytes)."""
    states = survey(plan, selected)
    cost = estimate(plan, states)
    runs = [
        {
            "run_id": state.spec.run_id,
            "method": state.spec.method,
            "rule": state.spec.rule,
            "seed": state.spec.seed,
            "params": state.spec.params,
            "hyper": state.spec.hyper,
            "parent": state.spec.parent,
            "trained": state.trained,
            "benchmarks_scored": state.cells,
        }
        for state in states
    ]
    return {
        "matrix": plan.config.name,
        "model": plan.model.name,
        "training_pairs": len(plan.pairs),
        "benchmarks": [benchmark["name"] for benchmark in plan.benchmarks],
        "learnability": dataclasses.asdict(plan.learnability) if plan.learnability is not None else None,
        "runs": runs,
        "stages": [dataclasses.asdict(stage) for stage in stages(plan, states, cost)],
        "estimate": dataclasses.asdict(cost),
    }
