"""What a pilot says of a planned matrix: the difference that it would detect."""

from __future__ import annotations

from dataclasses import dataclass

from harness.commands.analysis.power import read_pilot
from harness.plan.benchmarks import prompts_of
from harness.plan.plan import Plan
from reports.statistics.design import LEAST_SEEDS, SimulatedDesign, components
from reports.verdict.pilot import PilotError, pilot_squares
from trainers.common import UserError


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
    folder = source.path.parent / named
    try:
        metric, squares = pilot_squares(
            read_pilot(folder, place), plan.config.report.primary, plan.config.report.baseline
        )
    except PilotError as error:
        raise UserError(f"{place} is {named!r}: {error}") from None
    spread = components(list(squares.values()))[1]
    benchmark = next((b for b in plan.benchmarks if b.name == metric.partition("/")[0]), None)
    prompts = len(prompts_of(benchmark)) if benchmark is not None else 0
    prompts = prompts or (benchmark.limit if benchmark is not None else None) or next(iter(squares.values())).prompts
    claims, looks = max(len(plan.config.claims), 1), plan.config.looks or [len(plan.config.seeds)]
    found = SimulatedDesign(spread, looks, prompts, rivals=claims - 1, draws=1000).detectable()
    return Sized(named, metric, looks[-1], prompts, claims, found)
