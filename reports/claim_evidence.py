"""The paired differences a claim rests on: the method against its baseline and against each of its own controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from .claims import Claim
from .comparison import column, columns_of, paired_grid
from .labels import Arm, arms
from .records import REFERENCE_ID, MatrixData, ReportError, RunData
from .statistics.crossed import CrossedMean, crossed_mean

Floats = NDArray[np.float64]

#: Rules whose runs repeat, or mirror, the betas of a parent method.
CONTROL_RULES = ("matched_mean", "permuted", "inverse", "weight_only", "saturation_only")
#: Differences of two arms at a matched KL, shape (seeds, 1) or (seeds, prompts), or a sentence saying why not.
MatchedKL = Callable[[Arm, Arm, str], "Floats | str"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """One paired difference, oriented so that above zero the first is better; `reason` says why there is none."""

    role: str
    first: str
    second: str
    mean: CrossedMean
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All contrasts of one claim.

    `settings`: how many settings of the method the best was picked from; the p-values pay for that choice.
    `link`: what ties beta to the prompt under this rule. `earliest`: when the first run behind it was created.
    """

    label: str
    contrasts: Mapping[str, Contrast]
    settings: int = 1
    link: str = "which prompt gets which beta"
    earliest: datetime | None = None
    notes: Sequence[str] = field(default_factory=tuple)


NOTHING = CrossedMean(None, None, None, 0, 0)


def from_arrays(
    label: str, baseline: str, scores: Mapping[str, Floats], link: str = "which prompt gets which beta"
) -> Evidence:
    """Evidence from arrays of shape (seeds, prompts): `method`, `baseline` and any of the controls; higher is better."""
    found = {
        role: Contrast(role, label, baseline if role == "baseline" else role, crossed_mean(scores["method"] - values))
        for role, values in scores.items()
        if role != "method"
    }
    return Evidence(label, found, link=link)


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
        policies = [*matrix.runs, *([matrix.reference] if matrix.reference else [])]
        found = [
            s.metrics[self.metric] for r in policies if (s := r.scores.get(self.benchmark)) and self.metric in s.metrics
        ]
        self.scored = bool(found)
        self.sign = -1.0 if found and found[0].get("higher_is_better") is False else 1.0

    def level(self, arm: Arm) -> float:
        columns = columns_of(arm.runs, self.benchmark, self.metric)
        means = [float(np.mean(list(c.values.values()))) for c in columns]
        return self.sign * float(np.mean(means)) if means else float("-inf")

    def contrast(self, role: str, first: Arm, second: Arm | None) -> Contrast:
        name = second.label if second is not None else REFERENCE_ID
        if self.claim.at == "matched_kl":
            if self.matched is None or second is None:
                return Contrast(role, first.label, name, NOTHING, "no comparison at a matched KL is on record")
            values = self.matched(first, second, self.claim.metric)
            if isinstance(values, str):
                return Contrast(role, first.label, name, NOTHING, values)
            return self._made(role, first.label, name, self.sign * values)
        mine = columns_of(first.runs, self.benchmark, self.metric)
        if second is not None:
            theirs = {c.seed: c for c in columns_of(second.runs, self.benchmark, self.metric)}
        else:
            scores = self.matrix.reference.scores.get(self.benchmark) if self.matrix.reference else None
            fixed = None if scores is None else column(scores, self.metric, None)
            theirs = {c.seed: fixed for c in mine if fixed is not None and fixed.values}
        pairs = [(c, theirs[c.seed]) for c in mine if c.seed in theirs]
        values = self.sign * paired_grid(pairs)[1]
        return self._made(role, first.label, name, values)

    def _made(self, role: str, first: str, second: str, values: Floats) -> Contrast:
        mean = crossed_mean(values)
        return Contrast(role, first, second, mean, mean.note if mean.stderr is None else None)


def gather(matrix: MatrixData, claim: Claim, matched_kl: MatchedKL | None = None) -> Evidence:
    """The evidence of one claim in a matrix.

    Of several settings of the baseline the best on this metric is taken, the hardest to beat; of several settings of the
    method too, and their number is kept. A control counts when its run record names the method, the setting or one of
    its runs as `parent`. Missing evidence comes back as a contrast with a reason.
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
    method = max(mine, key=source.level)
    baseline = max(theirs, key=source.level) if theirs else None
    found = {"baseline": source.contrast("baseline", method, baseline)}
    controls = {a.rule: a for a in all_arms if a.rule in CONTROL_RULES and _parent_is(a, method)}
    for rule in CONTROL_RULES:
        if rule in controls:
            found[rule] = source.contrast(rule, method, controls[rule])
    notes = []
    if len(mine) > 1:
        notes.append(f"{method.label} is the best of {len(mine)} settings; p-values are multiplied by {len(mine)}")
    if baseline is not None and len(theirs) > 1:
        notes.append(f"{baseline.label} is the best of {len(theirs)} settings of the baseline")
    link = "prompt perplexity" if "ppl_of" in method.settings else "which prompt gets which beta"
    used = [r for a in (method, baseline) if a is not None for r in a.runs]
    times = [time for r in used if (time := _created(r)) is not None]
    return Evidence(method.label, found, len(mine), link, min(times, default=None), tuple(notes))
