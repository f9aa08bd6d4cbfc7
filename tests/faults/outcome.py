"""What came of faults, for people and as JSON."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Outcome:
    """One fault: what was done, where it struck, how both calls ended, and what differs from the undisturbed results.

    `role` is the process that came to the fault (`main`, `train`, `evaluate`, `judge`; `any` for a limit on all, `files` for
    damage), `stage` what the matrix was at then, or the kind of artifact, `where` the file.
    """

    number: int
    kind: str
    start: str
    what: str
    role: str = ""
    stage: str = ""
    where: str = ""
    codes: tuple[int, int] | None = None
    differs: list[str] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.error and not self.differs and self.codes is not None and self.codes[1] == 0


def describe(outcome: Outcome) -> str:
    """One line about an outcome."""
    ended = outcome.error or (
        f"differs: {', '.join(outcome.differs[:4])}" if outcome.differs else f"exit {outcome.codes}"
    )
    mark = "ok  " if outcome.good else "FAIL"
    place = ", ".join(part for part in (outcome.stage, outcome.where) if part)
    return f"{mark} {outcome.number:>4} {outcome.start:<9} {outcome.what} ({place}): {ended} [{outcome.seconds:.0f}s]"


def _place(outcome: Outcome) -> str:
    """Process and stage, as the table counts them; damage is counted by where the call starts."""
    if outcome.role in ("files", "any"):
        return "files at rest" if outcome.role == "files" else "any process"
    return outcome.role if outcome.role == outcome.stage else f"{outcome.role}: {outcome.stage}"


def _counts(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, dict[str, int]]:
    struck, same = Counter(map(key, outcomes)), Counter(key(o) for o in outcomes if o.good)
    return {name: {"struck": struck[name], "same_results": same[name]} for name in sorted(struck)}


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many faults struck, and how many restarts ended with the same results: by kind, process and stage, start, artifact."""
    return {
        "struck": len(outcomes),
        "same_results": sum(o.good for o in outcomes),
        "by_kind": _counts(outcomes, lambda o: o.kind),
        "by_process_and_stage": _counts(outcomes, _place),
        "by_start": _counts(outcomes, lambda o: o.start),
        "by_artifact": _counts([o for o in outcomes if o.kind == "damage"], lambda o: o.stage),
    }


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"summary": summary(outcomes), "outcomes": [{**asdict(o), "good": o.good} for o in outcomes]}


def table(outcomes: Sequence[Outcome]) -> str:
    """Faults that struck, by process and stage and by kind; survivors in the last column."""
    kinds = sorted({o.kind for o in outcomes})
    head = f"{'struck at':<18}" + "".join(f"{kind:>12}" for kind in kinds) + f"{'all':>6} {'same results':>13}"
    lines = [head]
    for place in [*sorted(set(map(_place, outcomes))), None]:
        part = [o for o in outcomes if place in (None, _place(o))]
        cells = "".join(f"{sum(o.kind == kind for o in part) or '':>12}" for kind in kinds)
        lines.append(f"{place or 'all':<18}{cells}{len(part):>6} {sum(o.good for o in part):>13}")
    starts = ", ".join(f"{name} {counts['struck']}" for name, counts in summary(outcomes)["by_start"].items())
    return "\n".join([*lines, f"by where the call started from: {starts}"])
