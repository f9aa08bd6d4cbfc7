"""`--dry-run`: the stages of a matrix, what is done of each and what the rest costs, as tables and as a JSON record."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from evals.engine.base import EngineConfig, choose_backend
from harness.commands.analysis.power import read_pilot
from harness.forecast.estimate import Estimate, JudgeCost, RunState, estimate, is_judged, survey
from harness.plan.benchmarks import prompts_of
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import duration
from reports.statistics.design import LEAST_SEEDS, SimulatedDesign, components
from reports.verdict.pilot import PilotError, pilot_squares
from trainers.common import Json, UserError
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
    for state in sorted(states, key=lambda state: state.spec.parent is not None):
        by_method.setdefault(state.spec.method, []).append(state)
    anything = any(state.trained for state in states)
    found = [Stage(SHARED, (), int(anything), 1, 0.0 if anything else None)]
    for method, runs in by_method.items():
        parent, done = runs[0].spec.parent_run, sum(run.trained for run in runs)
        needs = (SHARED,) if parent is None else (SHARED, f"train {parent.method}")
        found.append(Stage(f"train {method}", needs, done, len(runs), cost.train_seconds.get(method, 0.0)))
    if plan.benchmarks:
        scored = sum(state.cells == len(plan.benchmarks) for state in states)
        served = all(plan.cell_done(plan.reference, benchmark) for benchmark in plan.benchmarks)
        found.append(Stage(f"evaluate {REFERENCE}", (), int(served), 1, None))
        trained = tuple(f"train {method}" for method in by_method)
        found.append(Stage("evaluate policies", trained, scored, len(states), cost.eval_seconds))
    if plan.judges:
        known = [judge.seconds for judge in cost.judges if judge.seconds is not None]
        judged = sum(is_judged(plan, state, plan.judges) for state in states)
        left = sum(known) if len(known) == len(cost.judges) else None
        found.append(Stage("judge", ("evaluate policies",), judged, len(states), left))
    complete = all(stage.done == stage.total for stage in found) and (plan.output / "report.html").is_file()
    found.append(Stage("report", ("all of the above",), int(complete), 1, None))
    return found


# What a pilot says of a planned matrix: the difference that it would detect.


@dataclass(frozen=True)
class Sized:
    """`detectable`: smallest difference found with chance .80 on `metric`, in its unit; None with too few seeds to judge."""

    pilot: str
    metric: str
    seeds: int
    prompts: int
    claims: int
    detectable: float | None

    @property
    def text(self) -> str:
        design = f"{self.seeds} seeds x {self.prompts} prompts, {self.claims} claim{'' if self.claims == 1 else 's'}"
        if self.detectable is None:
            return f"pilot {self.pilot}: {design}: fewer than {LEAST_SEEDS} seeds, so nothing is judged"
        return f"pilot {self.pilot}: {design} on {self.metric} detect a difference of {self.detectable:.3g} with chance 80 %"


def sized(plan: Plan) -> Sized | None:
    """By the pilot that `report.pilot` names; None where it names none.

    Raises:
        UserError: the pilot cannot serve.
    """
    named, source = plan.config.report.pilot, plan.source
    if named is None:
        return None
    place = source.at("report", "pilot")
    report = plan.config.report
    try:
        metric, squares = pilot_squares(read_pilot(source.beside(named), place), report.primary, report.baseline)
    except PilotError as error:
        raise UserError(f"{place} is {named!r}: {error}") from None
    spread = components(list(squares.values()))[1]
    benchmark = next((b for b in plan.benchmarks if b.name == metric.partition("/")[0]), None)
    asked = (len(prompts_of(benchmark)), benchmark.limit) if benchmark is not None else ()
    prompts = next(filter(None, (*asked, next(iter(squares.values())).prompts)))
    claims, looks = max(len(plan.config.claims), 1), plan.config.looks or [len(plan.config.seeds)]
    found = SimulatedDesign(spread, looks, prompts, rivals=claims - 1, draws=1000).detectable()
    return Sized(named, metric, looks[-1], prompts, claims, found)


# What `run-matrix --dry-run` shows: the stage graph, the runs, and what is left to pay.


#: Runs listed one by one; the stages count all of them.
_LISTED = 40
_GIB = 2**30


def show_plan(plan: Plan, selected: list[RunSpec]) -> None:
    """Print the graph of the selected runs with what is cached and an estimate of the rest; nothing is written."""
    console, config = Console(highlight=False), plan.config
    states = survey(plan, selected)
    cost = estimate(plan, states)
    console.print(f"matrix [bold]{config.name}[/]: {len(plan.specs)} runs, {len(plan.pairs)} training pairs")
    console.print(f"model {plan.model.name}, {config.model.dtype}, {'LoRA' if config.lora else 'all weights'}")
    found = plan.learnability
    console.print(f"learnability: {found.text if found else 'not measured (inspect-data SOURCE --learnability does)'}")
    if (pilot := sized(plan)) is not None:
        console.print(pilot.text)
    console.print(_graph(plan, states, cost))
    console.print()
    console.print(_runs(plan, states[:_LISTED]))
    if len(states) > _LISTED:
        console.print(f"... {len(states) - _LISTED} runs more: --json lists all")
    names = ", ".join(benchmark.name for benchmark in plan.benchmarks) or "none"
    backend = choose_backend(EngineConfig(**config.evaluation.engine.model_dump()))
    console.print(f"benchmarks: {names} (engine: {backend})")
    for judge in cost.judges:
        console.print(_judge(judge))
    train = sum(cost.train_seconds.values())
    console.print(
        f"estimate, from {cost.basis}: about {duration(train)} to train, {duration(cost.eval_seconds)} to evaluate; "
        f"{cost.memory_bytes / _GIB:.1f} GiB of memory, {cost.disk_bytes / _GIB:.1f} GiB of disk "
        f"({cost.free_disk_bytes / _GIB:.0f} GiB free)"
    )
    if cost.rough:
        console.print("rough: this machine has not trained this model yet; the first run gives measured times")
    console.print("nothing written to the output directory")


def _judge(judge: JudgeCost) -> str:
    if not judge.requests:
        return f"judge {judge.name}: nothing to ask"
    time = "" if judge.seconds is None else f", about {duration(judge.seconds)}"
    text = f"judge {judge.name}: at most {judge.requests:,} requests{time}"
    if judge.max_requests is not None and judge.requests > judge.max_requests:
        text += f"; exceeds its budget, max_requests {judge.max_requests:,}"
    return text


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in ("done", "left") else "left")
    return table


def _graph(plan: Plan, states: Sequence[RunState], cost: Estimate) -> Table:
    table = _table("stage", "waits for", "done", "left")
    for stage in stages(plan, states, cost):
        every = len(stage.needs) > 3 and stage.name == "evaluate policies"
        needs = "each policy's training" if every else ", ".join(stage.needs) or "-"
        left = "-" if stage.done == stage.total else "" if stage.seconds is None else f"about {duration(stage.seconds)}"
        table.add_row(stage.name, needs, f"{stage.done}/{stage.total}", left)
    return table


def _runs(plan: Plan, states: Sequence[RunState]) -> Table:
    table = _table("run", "parameters", "seed", "train", "evaluate")  # its id begins with the method
    for state in states:
        spec, total = state.spec, len(plan.benchmarks)
        cells = {total: "cached", 0: "to do"}.get(state.cells, f"{state.cells}/{total} cached")
        trained = "cached" if state.trained else "to do"
        table.add_row(spec.run_id, _parameters(spec), str(spec.seed), trained, cells if total else "cached")
    return table


def _parameters(spec: RunSpec) -> str:
    shown = {**spec.params, **spec.hyper}
    keys = [key for key in ("pref_beta", "pref_beta_scale", "epsilon", *spec.hyper) if key in shown]
    return " ".join(f"{key}={shown[key]}" for key in dict.fromkeys(keys))


# What `run-matrix --dry-run --json` prints.


def plan_record(plan: Plan, selected: Sequence[RunSpec]) -> Json:
    """The selected runs with what is done of each, the stages, and what the rest would cost (seconds, bytes)."""
    states = survey(plan, selected)
    cost = estimate(plan, states)
    keys = ("run_id", "method", "rule", "seed", "params", "hyper", "parent")
    runs = [
        {key: getattr(state.spec, key) for key in keys} | {"trained": state.trained, "benchmarks_scored": state.cells}
        for state in states
    ]
    return {
        "matrix": plan.config.name,
        "model": plan.model.name,
        "training_pairs": len(plan.pairs),
        "benchmarks": [benchmark.name for benchmark in plan.benchmarks],
        "learnability": asdict(plan.learnability) if plan.learnability is not None else None,
        "pilot": asdict(pilot) if (pilot := sized(plan)) is not None else None,
        "runs": runs,
        "stages": [asdict(stage) for stage in stages(plan, states, cost)],
        "estimate": asdict(cost),
    }
