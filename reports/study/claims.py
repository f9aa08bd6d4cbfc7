"""The claims of a study, judged from the scores of every answer.

`study.yaml` in the study's folder names the worlds (a folder each, beside it) and the claims: weighted sums of paired
differences, each of a method to another in one world.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import special

from reports.compare.frontiers import COVERED
from reports.runs.records import REFERENCE_ID, ReportError, finite
from reports.statistics.crossed import crossed_mean
from reports.statistics.family import Claimed, judge_family
from reports.statistics.frontier import Frontier, matched
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


def frontier(scores: pd.DataFrame, method: str, seed: int, metric: str, cost: str) -> Frontier:
    """One run from its answers: rewards (points, groups of prompts) and KL in nats, the reference first, at KL 0."""
    own = scores[(scores["method"] == method) & (scores["seed"] == seed)]
    start = scores[scores["method"] == REFERENCE_ID].assign(**{cost: 0.0})
    points = [start, *(rows for _, rows in own.groupby("step"))]
    ids = points[-1]["id"].tolist()
    tables = [rows.set_index("id").loc[ids] for rows in points]
    groups = tables[0]["group"].tolist()
    reward, kl = (group_columns([t[column] for t in tables], groups) for column in (metric, cost))
    return Frontier(reward, kl, root=True)


def cells(scores: pd.DataFrame, first: str, second: str, study: Study) -> tuple[list[int], Floats]:
    """Shared seeds, and first - second by (seed, group of prompts) at equal KL, as the study says.

    Empty where two or more seeds cover too little of the window, as for the claims of one matrix (`COVERED`), or where a
    pair of runs shares no KL in it.
    """
    benchmark, metric = study.metric.split("/")
    rows = scores[scores["benchmark"] == benchmark]
    seeds = [set(rows.loc[rows["method"] == name, "seed"].dropna()) for name in (first, second)]
    shared = sorted(int(seed) for seed in seeds[0] & seeds[1])
    found = []
    for seed in shared:
        mine, theirs = (frontier(rows, name, seed, metric, study.cost) for name in (first, second))
        found.append(matched(mine, theirs, study.window))
    kept = [one for one in found if one is not None]
    if len(kept) < len(found) or sum(one.covered < COVERED for one in kept) > 1:
        return [], np.empty((0, 0))
    return shared, np.array([one.at_high if study.window is None else one.over_range for one in kept])


class Judged(BaseModel):
    """A claim with what was found: the difference in the metric's unit with its 95 % interval, and the verdict.

    Null where a world that it needs has not been run, or its runs do not cover the window.
    """

    name: str
    difference: float | None = None
    standard_error: float | None = None
    degrees: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    seeds: int = 0
    prompts: int = 0
    seed_differences: list[float] = []
    adjusted_p: float | None = Field(
        default=None, description="Of the verdict: Holm over the claims, charged for every look."
    )
    verdict: str = "not run"


def _sum(claim: StudyClaim, scores: dict[str, pd.DataFrame], study: Study) -> Floats | str:
    """The claim's weighted sum of differences, shape (seeds, groups of prompts), over the seeds that all terms have; a word
    where there is none."""
    for term in claim.terms:
        if term.world not in scores or not {term.method, term.against} <= set(scores[term.world]["method"]):
            return "not run"
    terms = [(term.weight, *cells(scores[term.world], term.method, term.against, study)) for term in claim.terms]
    shared = sorted(set.intersection(*(set(seeds) for _, seeds, _ in terms)))
    if not shared:
        return "not comparable"
    return np.asarray(sum(w * values[[seeds.index(s) for s in shared]] for w, seeds, values in terms))


def judge(study: Study, scores: dict[str, pd.DataFrame]) -> list[Judged]:
    """The verdict on each claim of the study, corrected over all of them; a claim that was not run keeps its place."""
    sums = [_sum(claim, scores, study) for claim in study.claims]
    means = [None if isinstance(values, str) else crossed_mean(values) for values in sums]
    seeds = min((mean.seeds for mean in means if mean is not None), default=0)
    look = Look(seeds, tuple(study.looks)) if seeds in study.looks else None
    family = [Claimed(c.name, (mean,), c.min_effect) for c, mean in zip(study.claims, means, strict=True)]
    judged = []
    for claim, values, mean, ruling in zip(study.claims, sums, means, judge_family(family, look=look), strict=True):
        if isinstance(values, str) or mean is None:
            judged.append(Judged(name=claim.name, verdict=str(values)))
            continue
        shown, word = mean.interval(), ruling.word
        p = min(ruling.p["better"], ruling.p["worse"]) if word == "undecided" else ruling.p[word]
        judged.append(
            Judged(
                name=claim.name,
                difference=finite(mean.value),
                standard_error=finite(mean.stderr),
                degrees=finite(mean.degrees),
                ci_low=shown.low,
                ci_high=shown.high,
                seeds=mean.seeds,
                prompts=mean.prompts,
                seed_differences=[float(v) for v in values.mean(axis=1)],
                adjusted_p=float(p) if ruling.testable else None,
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


def bounds(study: Study, scores: dict[str, pd.DataFrame]) -> list[Bound]:
    """Every exploratory rule that was run, with upper bounds that hold together (Bonferroni over all that were planned)."""
    asked = [(world, method) for world, about in study.worlds.items() for method in about.exploratory]
    rows = []
    for world, method in asked:
        if world not in scores or method not in set(scores[world]["method"]):
            continue
        seeds, values = cells(scores[world], method, study.worlds[world].baseline, study)
        mean = crossed_mean(values)
        shown = mean.interval()
        if not np.isnan(mean.stderr):
            upper = mean.value + float(special.stdtrit(mean.degrees, 1 - ALPHA / len(asked))) * mean.stderr
            rows.append(Bound(world=world, method=method, seeds=len(seeds), difference=mean.value, low=shown.low,
                              high=shown.high, upper=upper))  # fmt: skip
    return rows
