"""The claims of a study, judged from the scores of every answer.

`study.yaml` in the study's folder names the worlds (a folder each, beside it) and the claims: weighted sums of paired
differences, each of a method to another in one world.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import special

from reports.compare.comparison import detectable
from reports.compare.frontiers import COVERED
from reports.runs.records import REFERENCE_ID, ReportError, finite
from reports.statistics.crossed import CrossedMean, crossed_mean
from reports.statistics.family import Claimed, Weaker, judge_family
from reports.statistics.frontier import FEWEST_AT_KL, Frontier, matched
from reports.statistics.intervals import group_columns
from reports.statistics.multiplicity import ALPHA, Look

Floats = NDArray[np.float64]


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Term(_Told):
    """One paired difference of a claim: `method` less `against` in one world, times `weight`."""

    world: str
    method: str
    against: str
    weight: float = 1.0


class StudyClaim(_Told):
    """`says` in words what a positive value means; `predicted`: the verdict that was expected beforehand."""

    name: str
    says: str
    terms: list[Term] = Field(min_length=1)
    min_effect: float = Field(ge=0)
    predicted: str


class World(_Told):
    """One matrix of the study; `says` what is special about its data, `exploratory` its rules without a claim."""

    says: str
    baseline: str
    exploratory: list[str] = []


class Study(_Told):
    """study.yaml: the question, its worlds and claims, and what the answer does not say.

    `window`: runs are compared on average over this range of KL (nats); without it, at the largest KL that both reach.
    """

    question: str
    metric: str
    cost: str
    window: tuple[float, float] | None = None
    looks: list[int]
    expected_gain: float | None = Field(default=None, description="Of the baseline over the reference, in every world.")
    worlds: dict[str, World]
    claims: list[StudyClaim]
    limits: list[str]
    repeat: list[str]
    machine: str


def read_study(folder: Path) -> Study:
    """study.yaml of a study's folder.

    Raises:
        ReportError: it is missing, or a key or value is wrong.
    """
    path = folder / "study.yaml"
    try:
        return Study.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ReportError(f"{path}: {error}") from error


class WorldScores(BaseModel):
    """What was collected of one world: a row for each answer, and the (method, seed) of each run that failed."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    rows: pd.DataFrame
    failed: set[tuple[str, int]] = set()

    def seeds(self, method: str) -> set[int]:
        """Those of which a run of the method has ended, well or badly."""
        scored = self.rows.loc[self.rows["method"] == method, "seed"].dropna()
        return {int(seed) for seed in scored} | {seed for name, seed in self.failed if name == method}


def frontier(scores: pd.DataFrame, method: str, seed: int, metric: str, cost: str) -> Frontier:
    """One run from its answers: rewards (points, groups of prompts) and KL in nats, the reference first, at KL 0.

    Raises:
        ReportError: its points were not scored on the same prompts.
    """
    own = scores[(scores["method"] == method) & (scores["seed"] == seed)]
    start = scores[scores["method"] == REFERENCE_ID].assign(**{cost: 0.0})
    points = [start, *(rows for _, rows in own.groupby("step"))]
    ids = points[-1]["id"].tolist()
    try:
        tables = [rows.set_index("id").loc[ids] for rows in points]
    except KeyError as error:
        raise ReportError(f"{method}, seed {seed}: a checkpoint was not scored on all prompts: {error}") from None
    groups = tables[0]["group"].tolist()
    reward, kl = (group_columns([t[column] for t in tables], groups) for column in (metric, cost))
    return Frontier(reward, kl, root=True)


def cells(scores: pd.DataFrame, first: str, second: str, study: Study) -> tuple[list[int], Floats]:
    """Shared seeds, and first - second by (seed, group of prompts) at equal KL, as the study says.

    Empty where two or more seeds cover too little of the window, as for the claims of one matrix (`COVERED`), where a pair
    of runs shares no KL in it, or where a run has too few points to interpolate between.
    """
    benchmark, metric = study.metric.split("/")
    rows = scores[scores["benchmark"] == benchmark]
    seeds = [set(rows.loc[rows["method"] == name, "seed"].dropna()) for name in (first, second)]
    shared = sorted(int(seed) for seed in seeds[0] & seeds[1])
    pairs = [[frontier(rows, name, seed, metric, study.cost) for name in (first, second)] for seed in shared]
    found = [matched(mine, theirs, study.window) for mine, theirs in pairs]
    kept = [one for one in found if one is not None]
    few = any(len(run.kl) < FEWEST_AT_KL for pair in pairs for run in pair)
    if few or len(kept) < len(found) or sum(one.covered < COVERED for one in kept) > 1:
        return [], np.empty((0, 0))
    return shared, np.array([one.at_high if study.window is None else one.over_range for one in kept])


class Judged(BaseModel):
    """A claim with what was found: the difference in the metric's unit with its 95 % interval, and the verdict.

    Null where a world that it needs has not been run, or its runs cannot be compared.
    """

    name: str
    difference: float | None = None
    standard_error: float | None = None
    degrees: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    detectable: float | None = Field(
        default=None, description="The smallest true difference that this design finds with chance .8."
    )
    seeds: int = 0
    prompts: int = 0
    failed: int = Field(default=0, description="Seeds of which a run failed.")
    seed_differences: list[float] = []
    adjusted_p: float | None = Field(
        default=None, description="Of the verdict: Holm over the claims, charged for every look."
    )
    verdict: str = "not run"


class _Found(BaseModel):
    """One claim before it is judged: the weighted sum of differences, shape (seeds, groups of prompts), the number of seeds of
    which runs have ended, and what a failed run may have hidden; or a word in place of the sum."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    values: Any = None
    tried: int = 0
    failed: int = 0
    hidden: float = 0.0
    word: str = "not run"


def _find(claim: StudyClaim, worlds: Mapping[str, WorldScores], study: Study) -> _Found:
    sides = [(term.world, name) for term in claim.terms for name in (term.method, term.against)]
    if not all(world in worlds and worlds[world].seeds(name) for world, name in sides):
        return _Found()
    tried = set.intersection(*(worlds[world].seeds(name) for world, name in sides))
    lost = {seed for world, name in sides for seed in tried if (name, seed) in worlds[world].failed}
    terms = [(term.weight, *cells(worlds[term.world].rows, term.method, term.against, study)) for term in claim.terms]
    shared = sorted(set.intersection(*(set(seeds) for _, seeds, _ in terms)))
    if not shared:
        return _Found(word="not comparable")
    metric = study.metric.split("/")[1]
    hidden = sum(abs(term.weight) * float(np.ptp(worlds[term.world].rows[metric].dropna())) for term in claim.terms)
    values = sum(w * cells[[seeds.index(s) for s in shared]] for w, seeds, cells in terms)
    return _Found(values=values, tried=len(tried), failed=len(lost), hidden=hidden, word="")


def judge(study: Study, worlds: Mapping[str, WorldScores]) -> list[Judged]:
    """The verdict on each claim of the study, corrected over all of them; a claim that was not run keeps its place.

    Claims are judged together at one look: the smallest planned number of seeds that one of them has. Another is judged when
    it gets there. A failed run is taken at the worst and at the best score, and the weaker verdict stands.
    """
    every = [_find(claim, worlds, study) for claim in study.claims]
    counts = [one.tried for one in every if one.tried in study.looks]
    look = Look(min(counts), tuple(study.looks)) if counts else None
    family, means = [], []
    for claim, one in zip(study.claims, every, strict=True):
        if not one.word and (look is None or one.tried != look.seeds):
            one.word = f"not judged at {one.tried} seeds"
        mean = None if one.values is None else crossed_mean(one.values)
        needs: CrossedMean | Weaker | None = None if one.word else mean
        if needs is not None and one.failed:
            far = np.full((one.failed, one.values.shape[1]), one.hidden)
            needs = Weaker(needs, *(crossed_mean(np.concatenate([one.values, sign * far])) for sign in (-1, 1)))
        means.append(mean)
        family.append(Claimed(claim.name, (needs,), claim.min_effect))
    judged = []
    for one, mean, claimed, ruling in zip(every, means, family, judge_family(family, look=look), strict=True):
        if mean is None:
            judged.append(Judged(name=str(claimed.ladder), verdict=one.word))
            continue
        shown, word = mean.interval(), one.word or ruling.word
        p = None if one.word or word == "undecided" or not ruling.testable else float(ruling.p[word])
        judged.append(
            Judged(
                name=str(claimed.ladder),
                difference=finite(mean.value),
                standard_error=finite(mean.stderr),
                degrees=finite(mean.degrees),
                ci_low=shown.low,
                ci_high=shown.high,
                detectable=detectable(mean).value,
                seeds=mean.seeds,
                prompts=mean.prompts,
                failed=one.failed,
                seed_differences=[float(v) for v in one.values.mean(axis=1)],
                adjusted_p=p,
                verdict=word,
            )
        )
    return judged


class Bound(BaseModel):
    """An exploratory rule against the baseline of its world; `upper`: end of the simultaneous one-sided 95 % bound."""

    world: str
    method: str
    seeds: int
    difference: float
    low: float | None
    high: float | None
    upper: float


def bounds(study: Study, worlds: Mapping[str, WorldScores]) -> list[Bound]:
    """Every exploratory rule that was run, with upper bounds that hold together (Bonferroni over all that were planned)."""
    asked = [(world, method) for world, about in study.worlds.items() for method in about.exploratory]
    rows = []
    for world, method in asked:
        if world not in worlds or method not in set(worlds[world].rows["method"]):
            continue
        seeds, values = cells(worlds[world].rows, method, study.worlds[world].baseline, study)
        mean = crossed_mean(values)
        shown = mean.interval()
        if not np.isnan(mean.stderr):
            upper = mean.value + float(special.stdtrit(mean.degrees, 1 - ALPHA / len(asked))) * mean.stderr
            rows.append(Bound(world=world, method=method, seeds=len(seeds), difference=mean.value, low=shown.low,
                              high=shown.high, upper=upper))  # fmt: skip
    return rows
