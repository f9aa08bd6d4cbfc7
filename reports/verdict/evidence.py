"""The paired differences a claim rests on: the method against its baseline and against each of its own controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reports.compare.comparison import MatchedKL, column_pairs, columns_of, paired_grid
from reports.compare.grids import arm_grids
from reports.compare.tuning import cross_fitted
from reports.runs.arms import CONTROL_RULES, Arm, arms
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, RunData
from reports.statistics.best_settings import BestMean
from reports.statistics.crossed import CrossedMean, crossed_mean
from reports.verdict.claims import Claim


@dataclass(frozen=True, slots=True)
class Contrast:
    """One paired difference, oriented so that above zero the first is better; `reason` says why there is none.

    Where either side has several settings, `mean` is over all of them and its p-values pay for the choice; `first` and
    `second` name the two that the evidence turns on.
    """

    role: str
    first: str
    second: str
    mean: CrossedMean | BestMean
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All contrasts of one claim.

    `link`: what ties beta to the prompt under this rule. `earliest`: when the first run behind it was created.
    """

    label: str
    contrasts: Mapping[str, Contrast]
    link: str = "which prompt gets which beta"
    earliest: datetime | None = None
    notes: Sequence[str] = ()


NOTHING = CrossedMean(None, None, None, 0, 0)


def _find(all_arms: Sequence[Arm], name: str) -> list[Arm]:
    """The arm with this label, or every setting of the method with this name."""
    return [a for a in all_arms if a.label == name] or [a for a in all_arms if a.method == name]


def _parent_is(control: Arm, parent: Arm) -> bool:
    names = {(r.identity or {}).get("parent") for r in control.runs}
    return bool(names & {parent.method, parent.label, *(r.run_id for r in parent.runs)})


def _created(run: RunData) -> datetime | None:
    """When the run was created; a time without a zone is UTC."""
    stated = (run.identity or {}).get("created")
    if not stated:
        return None
    try:
        time = datetime.fromisoformat(str(stated))
    except ValueError as error:
        raise ReportError(f"{run.path / 'run.json'}: created is {stated!r}, not an ISO 8601 time") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class _Source:
    """Differences of two arms on one metric, from the scores on disk or from the figures at a matched KL."""

    def __init__(self, matrix: MatrixData, claim: Claim, matched: MatchedKL | None) -> None:
        self.matrix, self.claim, self.matched = matrix, claim, matched
        self.benchmark, self.metric = claim.metric.split("/", 1)
        tables = [s for s in matrix.tables if s.benchmark == self.benchmark and self.metric in s.metrics]
        self.scored = bool(tables)
        self.sign = -1.0 if tables and tables[0].metrics[self.metric].get("higher_is_better") is False else 1.0

    def scored_runs(self, arm: Arm) -> int:
        return len(columns_of(arm.runs, self.benchmark, self.metric))

    def mean(self, first: Arm, second: Arm | None) -> tuple[CrossedMean, str | None]:
        """The paired mean of two arms (None: the reference), and why it has no spread where it has none."""
        if self.claim.at == "matched_kl":
            if self.matched is None or second is None:
                return NOTHING, "no comparison at a matched KL is on record"
            values = self.matched(first, second, self.claim.metric)
            if isinstance(values, str):
                return NOTHING, values
        else:
            reference = self.matrix.reference.scores.get(self.benchmark) if self.matrix.reference else None
            values = paired_grid(column_pairs(first, second, reference, self.benchmark, self.metric)[0])[1]
        found = crossed_mean(self.sign * values)
        return found, found.note if found.stderr is None else None

    def baseline(self, mine: Sequence[Arm], theirs: Sequence[Arm | None]) -> tuple[Contrast, int]:
        """Every setting of the method against every one of the baseline, and the place of the method's that shows most."""
        found = [[self.mean(a, b) for b in theirs] for a in mine]
        reason = next((why for row in found for _, why in row if why is not None), None)
        means = tuple(tuple(m for m, _ in row) for row in found)
        whole: CrossedMean | BestMean = means[0][0]
        row = at = 0
        if len(mine) > 1 or len(theirs) > 1:
            row, at = BestMean(means, None).picked()
            whole = BestMean(means, self._estimate(mine, theirs, means[row][at]), row)
        second = theirs[at]
        name = REFERENCE_ID if second is None else second.label
        return Contrast("baseline", mine[row].label, name, whole, reason), row

    def _estimate(self, mine: Sequence[Arm], theirs: Sequence[Arm | None], picked: CrossedMean) -> float | None:
        """Cross-fitted where there are scores to choose on apart from those compared; else that of the picked pair."""
        if self.claim.at == "matched_kl" or None in theirs:
            return picked.estimate
        sides = [arm_grids([a for a in side if a is not None], self.benchmark, self.metric) for side in (mine, theirs)]
        gap = cross_fitted(list(sides[0].values()), list(sides[1].values()), self.sign)
        return picked.estimate if gap is None else gap

    def control(self, role: str, mine: Sequence[Arm], controls: Sequence[Arm | None], row: int) -> Contrast:
        """Each setting of the method against its own control (None: not run), judged at the setting in place `row`."""
        found = [(NOTHING, "not run") if c is None else self.mean(a, c) for a, c in zip(mine, controls, strict=True)]
        mean, reason = found[row]
        own = controls[row]
        name = role if own is None else own.label
        if len(mine) == 1:
            return Contrast(role, mine[row].label, name, mean, reason)
        whole = BestMean(tuple((m,) for m, _ in found), mean.estimate, row)
        return Contrast(role, mine[row].label, name, whole, reason)


def gather(matrix: MatrixData, claim: Claim, matched_kl: MatchedKL | None = None) -> Evidence:
    """The evidence of one claim in a matrix.

    A method or a baseline with several settings is judged over all of them (statistics.best_settings): the method at one
    of its settings, against the best that the baseline has. A control counts when its run record names the setting or
    one of its runs as `parent`. Missing evidence comes back as a contrast with a reason.
    """
    all_arms = arms(matrix.runs)
    source = _Source(matrix, claim, matched_kl)
    mine, theirs = _find(all_arms, claim.method), _find(all_arms, claim.against)
    missing = None
    if not mine:
        missing = f"the matrix has no method {claim.method!r}"
    elif not theirs and claim.against != REFERENCE_ID:
        missing = f"the matrix has no method {claim.against!r} to compare with"
    elif not source.scored:
        missing = f"{claim.metric} was not scored"
    if missing:
        return Evidence(claim.method, {"baseline": Contrast("baseline", claim.method, claim.against, NOTHING, missing)})
    notes: list[str] = []
    sides: list[list[Arm]] = []
    for side in (mine, theirs):  # a setting none of whose runs was scored was not there to choose
        there = [a for a in side if source.scored_runs(a)] or side[:1]
        notes += [f"{a.label}: no run of it was scored, so it takes no part" for a in side if a not in there]
        sides.append(there)
    mine, theirs = sides
    first, row = source.baseline(mine, theirs or [None])
    method, found = mine[row], {"baseline": first}
    for rule in CONTROL_RULES:
        own = [a for a in all_arms if a.rule == rule]
        controls = [next((c for c in own if _parent_is(c, a)), None) for a in mine]
        if controls[row] is not None:
            found[rule] = source.control(rule, mine, controls, row)
    if len(mine) > 1:
        notes.append(f"{method.label} shows most of {len(mine)} settings; p-values are multiplied by {len(mine)}")
    if len(theirs) > 1:
        notes.append(f"it has to beat every one of the baseline's {len(theirs)} settings; {first.second} comes closest")
    link = "prompt perplexity" if "ppl_of" in method.settings else "which prompt gets which beta"
    used = [r for a in (*mine, *theirs) for r in a.runs]
    times = [time for r in used if (time := _created(r)) is not None]
    return Evidence(method.label, found, link, min(times, default=None), tuple(notes))
