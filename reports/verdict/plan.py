"""The analysis plan: frozen whole before the first step, compared with what is analysed now, and what rests on a difference.

A plan is a flat mapping of texts. Its keys say what a difference reaches: `methods.NAME` the comparisons of a method,
`benchmarks.NAME` those on a benchmark, `primary` and `baseline` the comparisons that come first, `sensitivity` the controls;
anything else reaches every result. Claims, seeds and looks are frozen beside it (`reports.verdict.claims`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reports.runs.records import MatrixData, read_json
from reports.verdict.claims import read_claims, thaw
from reports.verdict.evidence import created

PRIMARY, BASELINE = "primary", "baseline"
#: Said of a key that a plan does not have.
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the plan as frozen and as it is now; `NOTHING` where there is none."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"

    def reaches(self, methods: Collection[str], benchmark: str, first: bool) -> bool:
        """Whether it bears on a result; see `PlanState.why`."""
        group, _, name = self.key.partition(".")
        known = {
            # a method that was taken out no longer counts among the first comparisons
            "methods": name in methods or (first and self.new == NOTHING),
            "benchmarks": name == benchmark.partition("@")[0],
            "judges": name == benchmark.partition("@")[2],
            "data": self.old != NOTHING,  # draws of added seeds, for which `seeds` and `looks` answer
            PRIMARY: first,
            BASELINE: first,
            "sensitivity": False,
        }
        return known.get(group, True)


def differences(frozen: Mapping[str, str], current: Mapping[str, str]) -> tuple[Change, ...]:
    """What stood in the plan and what stands there now, where that is not the same."""
    keys = [*frozen, *(key for key in current if key not in frozen)]
    every = (Change(key, frozen.get(key, NOTHING), current.get(key, NOTHING)) for key in keys)
    return tuple(change for change in every if change.old != change.new)


@dataclass(frozen=True, slots=True)
class PlanState:
    """How what is analysed differs from the plan. `always`: why nothing is declared, whatever the plan says."""

    changes: tuple[Change, ...] = ()
    always: str | None = None

    def why(self, methods: Collection[str], benchmark: str, first: bool = False) -> str | None:
        """Why a result on these methods and this benchmark is exploratory; None where it is as planned.

        `first`: it is one of the comparisons with the baseline on the primary metric.
        """
        reached = [f"not as in the frozen plan ({c})" for c in self.changes if c.reaches(methods, benchmark, first)]
        return self.always or next(iter(reached), None)


def plan_state(matrix: MatrixData) -> PlanState:
    """The difference between the frozen plan of a matrix and what is analysed; none where no plan was frozen.

    Outputs of earlier versions have no whole plan; of these the baseline and the primary metric are compared with those of the
    first call, where matrix.json has them.

    Raises:
        ClaimError: claims.json was changed.
        ReportError: a run's time is none.
    """
    picked = matrix.config.get("picked")
    if picked:
        return PlanState(always=str(picked))
    path = matrix.output_dir / "matrix.json"
    record = read_json(path) if path.is_file() else {}
    frozen = read_claims(matrix.output_dir)
    report = matrix.config.get("report") or {}
    if not frozen or not frozen.get("plan"):
        first = record.get("first_report") or report
        return PlanState(differences(_asked(first), _asked(report)))
    _, time = thaw(frozen)
    earliest = min((at for run in matrix.runs if (at := created(run)) is not None), default=time)
    late = f"the plan was frozen at {time.isoformat()}, after the first run was created ({earliest.isoformat()})"
    current = (record.get("plan") or frozen["plan"]) | _asked(report)
    return PlanState(differences(frozen["plan"], current), late if earliest < time else None)


def _asked(report: Mapping[str, str | None]) -> dict[str, str]:
    return {key: shown(report.get(key)) for key in (PRIMARY, BASELINE)}


def shown(value: str | None) -> str:
    """A setting of the report as the plan has it."""
    return value or "by default"
