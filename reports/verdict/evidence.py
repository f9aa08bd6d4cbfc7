"""The paired differences a claim rests on: the method against its baseline and against each of its own controls."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from reports.beta.learned import collapse_of
from reports.compare.comparison import Floats, Lend, MatchedKL, align, column, column_pairs, columns_of, paired_grid
from reports.compare.grids import arm_grids, lender
from reports.compare.tuning import cross_fitted
from reports.runs import CONTROL_RULES, REFERENCE_ID, Arm, MatrixData, ReportError, RunData, arms
from reports.statistics.best_settings import BestMean, best_mean
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
    mean: CrossedMean
    reason: str | None = None
    bounds: tuple[CrossedMean, CrossedMean] | None = None
    cells: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def comparison(self) -> Comparison:
        """What is judged: the mean, and where runs failed also the bounds, the weaker verdict of which stands."""
        return self.mean if self.bounds is None else Weaker(self.mean, *self.bounds)

    @property
    def three(self) -> tuple[CrossedMean, CrossedMean, CrossedMean]:
        """The mean as observed and the two bounds, which are that mean where no run failed."""
        return (self.mean, *(self.bounds or (self.mean, self.mean)))


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


def _failed(arm: Arm | None) -> set[int]:
    return set() if arm is None else {r.seed for r in arm.runs if r.state == "failed" and r.seed is not None}


class _Source:
    """Differences of two arms on one metric, from the scores on disk or from the figures at a matched KL."""

    def __init__(
        self, matrix: MatrixData, claim: Claim, matched: MatchedKL | None, all_arms: Sequence[Arm], lend: Lend | None
    ) -> None:
        self.claim, self.matched = claim, matched
        self.on = benchmark, metric = claim.metric.split("/", 1)
        self.reference = matrix.reference.scores.get(benchmark) if matrix.reference else None
        tables = [s for s in matrix.tables if s.benchmark == benchmark and metric in s.metrics]
        self.scored = bool(tables)
        self.sign = -1.0 if tables and tables[0].metrics[metric].get("higher_is_better") is False else 1.0
        self.lend = lend or lender(arm_grids(all_arms, benchmark, metric))
        # What a failed run is taken for: the worst and the best score that any answer has.
        every = [self.sign * v for table in tables for v in table.values(metric).values()]
        self.worst, self.best = min(every, default=0.0), max(every, default=0.0)

    def contrast(self, role: str, first: Arm, second: Arm | None) -> Contrast:
        """The paired difference of two arms (None: the reference)."""
        names = role, first.label, REFERENCE_ID if second is None else second.label
        lost = _failed(first) | _failed(second)
        bounds: tuple[CrossedMean, CrossedMean] | None = None
        if self.claim.at == "matched_kl":
            values: Floats | str = "no comparison at a matched KL is on record"
            if self.matched is not None and second is not None:
                values = self.matched(first, second, self.claim.metric, self.claim.window)
            if isinstance(values, str):
                return Contrast(*names, NOTHING, values)
            cells, lent = self.sign * values, None
            if lost:
                far = np.full((len(lost), cells.shape[1]), self.best - self.worst)
                low, high = (crossed_mean(np.concatenate([cells, turn * far])) for turn in (-1, 1))
                bounds = (low, high)
        else:
            pairs = column_pairs(first, second, self.reference, *self.on)[0]
            ids, values = paired_grid(pairs)
            seeds = [a.seed for a, _ in pairs]
            lent = None if second is None else self.lend(first.label, second.label, seeds, ids, values.shape[1])
            cells, bounds = self.sign * values, self._bounds(first, second) if lost else None
        found = crossed_mean(cells, lent)
        return Contrast(*names, found, found.note if math.isnan(found.stderr) else None, bounds, cells)

    def _bounds(self, first: Arm, second: Arm | None) -> tuple[CrossedMean, CrossedMean] | None:
        """With the failed runs in. A seed that only one side has, the other's run having not failed, takes no part."""
        lost, gone = _failed(first), _failed(second)
        mine = {c.seed: c for c in columns_of(first.runs, *self.on)}
        theirs = {}
        if second is not None:
            theirs = {c.seed: c for c in columns_of(second.runs, *self.on)}
        elif self.reference is not None:
            theirs = dict.fromkeys([*mine, *lost], column(self.reference, self.on[1], None))
        seeds = [s for s in dict.fromkeys([*mine, *lost]) if s in theirs or s in gone]
        there = [c for s in seeds for side in (mine, theirs) if (c := side.get(s)) is not None]
        ids, values = align([c.values for c in there])
        if not ids:
            return None
        cells = group_columns(self.sign * values, [there[0].groups[i] for i in ids])
        at = {id(c): row for c, row in zip(there, cells, strict=True)}
        nothing = np.full(cells.shape[1], np.nan)
        one, other = (np.array([at.get(id(side.get(s)), nothing) for s in seeds]) for side in (mine, theirs))
        return failure_bounds(one, other, self.worst, self.best)

    def baseline(self, mine: Sequence[Arm], theirs: Sequence[Arm | None]) -> tuple[Contrast, int]:
        """Every setting of the method against every one of the baseline, and the place of the method's that shows most."""
        table = [[self.contrast("baseline", a, b) for b in theirs] for a in mine]
        row, at = best_mean([[one.mean for one in line] for line in table]).at
        found = _at_best(table, row, at)
        if isinstance(found.mean, BestMean):
            found = replace(found, mean=replace(found.mean, value=self._estimate(mine, theirs, found.mean.value)))
        reason = next((one.reason for line in table for one in line if one.reason is not None), None)
        return replace(found, reason=reason), row

    def _estimate(self, mine: Sequence[Arm], theirs: Sequence[Arm | None], picked: float) -> float:
        """Cross-fitted where there are scores to choose on apart from those compared; else that of the picked pair."""
        if self.claim.at == "matched_kl" or None in theirs:
            return picked
        sides = [arm_grids([a for a in side if a is not None], *self.on) for side in (mine, theirs)]
        gap = cross_fitted(list(sides[0].values()), list(sides[1].values()), self.sign)
        return picked if gap is None else gap

    def control(self, role: str, mine: Sequence[Arm], controls: Sequence[Arm | None], row: int) -> Contrast:
        """Each setting of the method against its own control (None: not run), judged at the setting in place `row`."""
        absent = Contrast(role, mine[row].label, role, NOTHING, "not run")
        return _at_best(
            [[absent if c is None else self.contrast(role, a, c)] for a, c in zip(mine, controls, strict=True)], row, 0
        )


def _at_best(table: Sequence[Sequence[Contrast]], row: int, at: int) -> Contrast:
    """The contrast of all settings of one side with those of the other, judged at the one in place `row` of the first."""
    picked = table[row][at]
    if len(table) == len(table[0]) == 1:
        return picked
    mean, *bounds = (
        best_mean([[one.three[i] for one in line] for line in table], picked.three[i].value, row) for i in range(3)
    )
    failed = any(one.bounds for line in table for one in line)
    return replace(picked, mean=mean, bounds=(bounds[0], bounds[1]) if failed else None)


def gather(matrix: MatrixData, claim: Claim, matched_kl: MatchedKL | None = None, lend: Lend | None = None) -> Evidence:
    """The evidence of one claim in a matrix; `lend` is what its arms know of the spread over seeds, where that is made already.

    A method or a baseline with several settings is judged over all of them (statistics.best_settings): the method at one
    of its settings, against the best that the baseline has. A control counts when its run record names the setting or
    one of its runs as `parent`. Missing evidence comes back as a contrast with a reason.
    """
    all_arms = arms(matrix.runs)
    source = _Source(matrix, claim, matched_kl, all_arms, lend)
    every = {"method": _find(all_arms, claim.method), "baseline": _find(all_arms, claim.against)}
    missing = None if source.scored else f"{claim.metric} was not scored"
    if not every["baseline"] and claim.against != REFERENCE_ID:
        missing = f"the matrix has no method {claim.against!r} to compare with"
    if not every["method"]:
        missing = f"the matrix has no method {claim.method!r}"
    if missing:
        return Evidence(claim.method, {"baseline": Contrast("baseline", claim.method, claim.against, NOTHING, missing)})
    # A setting none of whose runs was scored was not there to choose.
    mine, theirs = ([a for a in side if columns_of(a.runs, *source.on)] or side[:1] for side in every.values())
    notes = [
        f"{a.label}: no run of it was scored, so it takes no part"
        for side in every.values()
        for a in side
        if a not in (*mine, *theirs)
    ]
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
    times = [time for a in (*mine, *theirs) for r in a.runs if (time := created(r)) is not None]
    failures = [text for arm in shown for text in _trouble(arm)]
    ended = [r.state for r in method.runs if r.state in ("done", "failed")]
    if ended:
        rate = largest_failure_rate(ended.count("failed"), len(ended))
        notes.append(
            f"{ended.count('done')} of {len(ended)} runs of {method.label} finished; that cannot exclude a failure rate of "
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
