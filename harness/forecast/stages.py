"""The stages of a matrix, what each waits for, how much of it is done, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.forecast.estimate import Estimate, is_judged
from harness.plan.plan import Plan
from harness.state.survey import RunState
from trainers.common.scores_schema import REFERENCE


@dataclass(frozen=True)
class Stage:
    """A node of the graph: `done` of `total` (runs, or policies), after the stages named in `needs`.

    `seconds` is what is left of it, None where that is part of another stage's figure.
    """

    name: str
    needs: tuple[str, ...]
    done: int
    total: int
    seconds: float | None


#: Tokens, log-probs and entropies of the pairs under the starting weights: one stage for all runs.
SHARED = "reference pass"


def stages(plan: Plan, states: Sequence[RunState], cost: Estimate) -> list[Stage]:
    """The graph of the runs in `states`, every stage after those it needs.

    Tokens and reference log-probs are made once and shared; a control waits for the runs of its parent; every policy is
    evaluated once it is trained; judges compare what was evaluated; the report shows everything.
    """
    by_method: dict[str, list[RunState]] = {}
    for state in states:
        by_method.setdefault(state.spec.method, []).append(state)
    anything = any(state.trained for state in states)
    found = [Stage(SHARED, (), int(anything), 1, 0.0 if anything else None)]
    for method, runs in sorted(by_method.items(), key=lambda item: item[1][0].spec.parent is not None):
        parent = runs[0].spec.parent_run
        needs = (SHARED,) if parent is None else (SHARED, f"train {parent.method}")
        done = sum(run.trained for run in runs)
        found.append(Stage(f"train {method}", needs, done, len(runs), cost.train_seconds.get(method, 0.0)))
    if plan.benchmarks:
        scored = sum(state.cells == len(plan.benchmarks) for state in states)
        served = all(plan.cell_done(plan.reference, benchmark) for benchmark in plan.benchmarks)
        found.append(Stage(f"evaluate {REFERENCE}", (), int(served), 1, None))
        trained = tuple(f"train {method}" for method in by_method)
        found.append(Stage("evaluate policies", trained, scored, len(states), cost.eval_seconds))
    if plan.judges:
        seconds = [judge.seconds for judge in cost.judges]
        known = [one for one in seconds if one is not None]
        judged = sum(is_judged(plan, state) for state in states)
        left = sum(known) if len(known) == len(seconds) else None
        found.append(Stage("judge", ("evaluate policies",), judged, len(states), left))
    complete = all(stage.done == stage.total for stage in found) and (plan.output / "report.html").is_file()
    found.append(Stage("report", ("all of the above",), int(complete), 1, None))
    return found
