"""The paired differences a claim rests on: the method against its baseline and against each of its own controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from reports.beta.learned import collapse_of
from reports.compare.comparison import Floats, Lend, MatchedKL, align, column, column_pairs, columns_of, paired_grid
from reports.compare.grids import arm_grids, lender
from reports.compare.tuning import cross_fitted
from reports.runs.arms import CONTROL_RULES, Arm, arms
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, RunData, Scores
from reports.statistics.best_settings import BestMean
from reports.statistics.crossed import CrossedMean, crossed_mean, without_spread
from reports.statistics.family import Comparison, Weaker, failure_bounds
from reports.statistics.intervals import group_columns, largest_failure_rate
from reports.verdict.claims import Claim


@dataclass(frozen=True, slots=True)
class Contrast:
    """One paired difference, oriented so that above zero the first is better; `reason` says why there is none.

    Where either side has several settings, `mean` is over all of them and its p-values pay for the choice; `first` and
    `second` name the two that the evidence turns on. `bounds`: where runs failed, the mean with those of the first at the
    worst score and those of the second at the best one, and the reverse. `cells`: the differences of the two named, shape
    (seeds, groups of prompts).
    """

    role: str
    first: str
    second: str
    mean: CrossedMean | BestMean
    reason: str | None = None
    bounds: tuple[CrossedMean | BestMean, CrossedMean | BestMean] | None = None
    cells: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def comparison(self) -> Comparison:
        """What is judged: the mean, and where runs failed also the bounds, the weaker verdict of which stands."""
        return self.mean if self.bounds is None else Weaker(self.mean, *self.bounds)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All contrasts of one claim.

    `link`: what ties beta to the prompt under this rule. `earliest`: when the first run behind it was created. `failures`:
    runs of the two sides and of the controls that failed, diverged or collapsed, a text for each arm and kind.
    """

    label: str
    contrasts: Mapping[str, Contrast]
    link: str = "which prompt gets which beta"
    earliest: datetime | None = None
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()


NOTHING = without_spread(math.nan, 0, 0, "")


def _find(all_arms: Sequence[Arm], name: str) -> list[Arm]:
    """The arm with this label, or every setting of the method with this name."""
    return [a for a in all_arms if a.label == name] or [a for a in all_arms if a.method == name]


def _parent_is(control: Arm, parent: Arm) -> bool:
    names = {(r.identity or {}).get("parent") for r in control.runs}
    return bool(names & {parent.method, parent.label, *(r.run_id for r in parent.runs)})


def created(run: RunData) -> datetime | None:
    """When the run was created; a time without a zone is UTC."""
    stated = (run.identity or {}).get("created")
    if not stated:
        return None
    try:
        time = datetime.fromisoformat(str(stated))
    except ValueError as error:
        raise ReportError(f"{run.path / 'run.json'}: created is {stated!r}, not an ISO 8601 time") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Found:
    """The paired mean of two arms, with its bounds where runs failed, and why it has no spread where it has none."""

    mean: CrossedMean
    bounds: tuple[CrossedMean, CrossedMean] | None = None
    reason: str | None = None
    cells: Floats | None = None

    @property
    def three(self) -> tuple[CrossedMean, CrossedMean, CrossedMean]:
        """The mean as observed and the two bounds, which are that mean where no run failed."""
        return (self.mean, *(self.bounds or (self.mean, self.mean)))


def _failed(arm: Arm | None) -> set[int | None]:
    return set() if arm is None else {r.seed for r in arm.runs if r.state == "failed" and r.seed is not None}


class _Source:
    """Differences of two arms on one metric, from the scores on disk or from the figures at a matched KL."""

    def __init__(
        self, matrix: MatrixData, claim: Claim, matched: MatchedKL | None, all_arms: Sequence[Arm], lend: Lend | None
    ) -> None:
        self.matrix, self.claim, self.matched = matrix, claim, matched
        self.benchmark, self.metric = claim.metric.split("/", 1)
        tables = [s for s in matrix.tables if s.benchmark == self.benchmark and self.metric in s.metrics]
        self.scored = bool(tables)
        self.sign = -1.0 if tables and tables[0].metrics[self.metric].get("higher_is_better") is False else 1.0
        self.lend = lend or lender(arm_grids(all_arms, self.benchmark, self.metric))
        # What a failed run is taken for: the worst and the best score that any answer has.
        every = [v for table in tables for v in table.values(self.metric).values()]
        ends = (self.sign * min(every, default=0.0), self.sign * max(every, default=0.0))
        self.worst, self.best = min(ends), max(ends)

    def scored_runs(self, arm: Arm) -> int:
        return len(columns_of(arm.runs, self.benchmark, self.metric))

    def mean(self, first: Arm, second: Arm | None) -> _Found:
        """The paired mean of two arms (None: the reference)."""
        if self.claim.at == "matched_kl":
            if self.matched is None or second is None:
                return _Found(NOTHING, None, "no comparison at a matched KL is on record")
            values = self.matched(first, second, self.claim.metric, self.claim.window)
            if isinstance(values, str):
                return _Found(NOTHING, None, values)
            found, bounds = crossed_mean(self.sign * values), None
            if lost := len(_failed(first) | _failed(second)):
                far = np.full((lost, values.shape[1]), self.best - self.worst)
                low, high = (crossed_mean(np.concatenate([self.sign * values, turn * far])) for turn in (-1, 1))
                bounds = (low, high)
        else:
            reference = self.matrix.reference.scores.get(self.benchmark) if self.matrix.reference else None
            pairs = column_pairs(first, second, reference, self.benchmark, self.metric)[0]
            ids, values = paired_grid(pairs)
            seeds = [a.seed for a, _ in pairs]
            lent = None if second is None else self.lend(first.label, second.label, seeds, ids, values.shape[1])
            found = crossed_mean(self.sign * values, lent)
            bounds = self._bounds(first, second, reference) if _failed(first) | _failed(second) else None
        return _Found(found, bounds, found.note if math.isnan(found.stderr) else None, self.sign * values)

    def _bounds(
        self, first: Arm, second: Arm | None, reference: Scores | None
    ) -> tuple[CrossedMean, CrossedMean] | None:
        """With the failed runs in. A seed that only one side has, the other's run having not failed, takes no part."""
        lost, gone = _failed(first), _failed(second)
        mine = {c.seed: c for c in columns_of(first.runs, self.benchmark, self.metric)}
        theirs = {}
        if second is not None:
            theirs = {c.seed: c for c in columns_of(second.runs, self.benchmark, self.metric)}
        elif reference is not None:
            theirs = dict.fromkeys([*mine, *lost], column(reference, self.metric, None))
        seeds = [s for s in dict.fromkeys([*mine, *lost]) if s in theirs or s in gone]
        there = [c for s in seeds for side in (mine, theirs) if (c := side.get(s)) is not None]
        ids, values = align([c.values for c in there]) if there else ([], np.empty((0, 0)))
        if not ids:
            return None
        cells = group_columns(self.sign * values, [there[0].groups[i] for i in ids])
        at = {id(c): row for c, row in zip(there, cells, strict=True)}
        nothing = np.full(cells.shape[1], np.nan)
        one, other = (np.array([at.get(id(side.get(s)), nothing) for s in seeds]) for side in (mine, theirs))
        return failure_bounds(one, other, self.worst, self.best)

    def baseline(self, mine: Sequence[Arm], theirs: Sequence[Arm | None]) -> tuple[Contrast, int]:
        """Every setting of the method against every one of the baseline, and the place of the method's that shows most."""
        found = [[self.mean(a, b) for b in theirs] for a in mine]
        row, at = BestMean(tuple(tuple(one.mean for one in line) for line in found)).picked()
        reason = next((one.reason for line in found for one in line if one.reason is not None), None)
        contrast = _contrast("baseline", found, row, at, mine[row].label, theirs[at])
        value = self._estimate(mine, theirs, found[row][at].mean)
        mean = contrast.mean if isinstance(contrast.mean, CrossedMean) else replace(contrast.mean, value=value)
        return replace(contrast, mean=mean, reason=reason, cells=found[row][at].cells), row

    def _estimate(self, mine: Sequence[Arm], theirs: Sequence[Arm | None], picked: CrossedMean) -> float:
        """Cross-fitted where there are scores to choose on apart from those compared; else that of the picked pair."""
        if self.claim.at == "matched_kl" or None in theirs:
            return picked.value
        sides = [arm_grids([a for a in side if a is not None], self.benchmark, self.metric) for side in (mine, theirs)]
        gap = cross_fitted(list(sides[0].values()), list(sides[1].values()), self.sign)
        return picked.value if gap is None else gap

    def control(self, role: str, mine: Sequence[Arm], controls: Sequence[Arm | None], row: int) -> Contrast:
        """Each setting of the method against its own control (None: not run), judged at the setting in place `row`."""
        absent = _Found(NOTHING, None, "not run")
        found = [[absent if c is None else self.mean(a, c)] for a, c in zip(mine, controls, strict=True)]
        return _contrast(role, found, row, 0, mine[row].label, controls[row])


def _contrast(
    role: str, found: Sequence[Sequence[_Found]], row: int, at: int, first: str, second: Arm | None
) -> Contrast:
    """The contrast of the settings of one side with those of the other, judged at the one in place `row` of the first."""
    picked = found[row][at]
    whole: list[CrossedMean | BestMean] = [*picked.three]
    if len(found) > 1 or len(found[0]) > 1:
        tables = [tuple(tuple(one.three[i] for one in line) for line in found) for i in range(3)]
        whole = [BestMean(table, table[row][at].value, row) for table in tables]
    bounds = (whole[1], whole[2]) if any(one.bounds for line in found for one in line) else None
    return Contrast(role, first, REFERENCE_ID if second is None else second.label, whole[0], picked.reason, bounds)


def gather(matrix: MatrixData, claim: Claim, matched_kl: MatchedKL | None = None, lend: Lend | None = None) -> Evidence:
    """The evidence of one claim in a matrix; `lend` is what its arms know of the spread over seeds, where that is made already.

    A method or a baseline with several settings is judged over all of them (statistics.best_settings): the method at one
    of its settings, against the best that the baseline has. A control counts when its run record names the setting or
    one of its runs as `parent`. Missing evidence comes back as a contrast with a reason.
    """
    all_arms = arms(matrix.runs)
    source = _Source(matrix, claim, matched_kl, all_arms, lend)
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
    shown = [*mine, *theirs]
    for rule in CONTROL_RULES:
        own = [a for a in all_arms if a.rule == rule]
        controls = [next((c for c in own if _parent_is(c, a)), None) for a in mine]
        if controls[row] is not None:
            found[rule] = source.control(rule, mine, controls, row)
            shown += [c for c in controls if c is not None]
    if len(mine) > 1:
        notes.append(f"{method.label} shows most of {len(mine)} settings; p-values are multiplied by {len(mine)}")
    if len(theirs) > 1:
        notes.append(f"it has to beat every one of the baseline's {len(theirs)} settings; {first.second} comes closest")
    link = "prompt perplexity" if "ppl_of" in method.settings else "which prompt gets which beta"
    used = [r for a in (*mine, *theirs) for r in a.runs]
    times = [time for r in used if (time := created(r)) is not None]
    failures = [text for arm in shown for text in _trouble(arm)]
    ended = [r for r in method.runs if r.state in ("done", "failed")]
    if ended:
        broken = sum(r.state == "failed" for r in ended)
        rate = largest_failure_rate(broken, len(ended))
        notes.append(
            f"{len(ended) - broken} of {len(ended)} runs of {method.label} finished; that cannot exclude a failure rate of "
            f"{100 * rate:.0f} %"
        )
    return Evidence(method.label, found, link, min(times, default=None), tuple(notes), tuple(failures))


def _trouble(arm: Arm) -> list[str]:
    """What went wrong with an arm's runs, one text each for failed, diverged and collapsed ones."""
    done = [r for r in arm.runs if r.state == "done"]
    kinds = {
        "failed": [r for r in arm.runs if r.state == "failed"],
        "diverged": [r for r in done if any(not math.isfinite(float(s["loss"] or 0.0)) for s in r.steps)],
        "collapsed": [r for r in done if collapse_of(r) is not None],
    }
    return [
        f"{len(runs)} of {len(arm.runs)} runs of {arm.label} {kind} (seed{'' if len(runs) == 1 else 's'} "
        f"{', '.join(str(r.seed) for r in runs)})"
        for kind, runs in kinds.items()
        if runs
    ]
