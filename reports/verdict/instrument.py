"""What a matrix can show: the effect planted in it (assay sensitivity, ICH E10), and over what its intervals generalise."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from reports.compare.comparison import MatchedKL, column_pairs, detectable, paired_grid
from reports.runs import Arm, MatrixData, RunData, arms, grouped, same_beta, tried
from reports.schema.verdict import PlantedControl, Scope, Sensitivity, Share
from reports.statistics.design import ALPHA
from reports.statistics.family import HELPS, Claimed, judge_family
from reports.statistics.multiplicity import Look
from reports.verdict.claims import Claim, measures_kl
from reports.verdict.evidence import gather
from reports.verdict.sentences import interval_text

# Assay sensitivity (ICH E10): did the matrix see the effect that was planted, and none where none was?


Role = Literal["positive", "negative", "weak"]


def sensitivity(matrix: MatrixData, primary: str | None, matched_kl: MatchedKL) -> Sensitivity | None:
    """The verdict on the controls of the matrix file's `sensitivity`; None where it declares none.

    At one of the matrix file's `looks` each p-value is charged for all of them.
    """
    stated: Mapping[str, Any] | None = matrix.config.get("sensitivity")
    metric = (stated or {}).get("metric") or primary
    if not stated or metric is None:
        return None
    margin = float(stated["margin"])
    evaluation = matrix.config.get("evaluation") or {}
    at: Literal["final", "matched_kl"] = "matched_kl" if measures_kl(evaluation, metric.split("/")[0]) else "final"
    every = arms(matrix.runs)
    looks: list[int] = matrix.config.get("looks") or []

    def control(role: Role) -> PlantedControl:
        arm = next((a for a in every if a.method == stated[role]), None)
        other = _compared_with(arm, str(stated["against"]), every)
        names = (stated[role] if arm is None else arm.label, stated["against"] if other is None else other.label)
        claim = Claim(role, *names, metric, at=at, min_effect=margin, window=stated.get("window"))
        contrast = gather(matrix, claim, matched_kl).contrasts["baseline"]
        mean, interval = contrast.mean, contrast.mean.interval()
        seeds = len(tried([*(arm.runs if arm else ()), *(other.runs if other else ())]))
        look = Look(seeds, tuple(looks)) if seeds in looks else None
        (ruling,) = judge_family([Claimed((), (contrast.comparison,), margin)], look=look)
        seen = ruling.word in HELPS if role == "negative" else float(ruling.p["better"]) <= ALPHA
        least = detectable(mean).value
        shown = f"no difference could be computed, {contrast.reason}" if interval.value is None else interval_text(mean)
        found = f"{names[0]} against {names[1]} on {claim.place}: {shown}, {mean.seeds} seeds x {mean.prompts} prompts"
        return PlantedControl(
            role=role,
            label=names[0],
            against=names[1],
            metric=metric,
            at=at,
            difference=interval.value,
            standard_error=interval.stderr,
            ci_low=interval.low,
            ci_high=interval.high,
            detected=seen,
            detectable=least,
            seeds=mean.seeds,
            prompts=mean.prompts,
            sentence=_sentence(role, seen, found, least, margin),
            reason=contrast.reason or (interval.note if interval.low is None else None),
        )

    positive, negative = control("positive"), control("negative")
    weak = control("weak") if stated.get("weak") else None
    parts = [positive.sentence, *([weak.sentence] if weak else []), negative.sentence]
    return Sensitivity(
        positive=positive,
        negative=negative,
        weak=weak,
        margin=margin,
        nulls_count=positive.detected and not negative.detected,
        sentence=" ".join(parts),
    )


def _compared_with(arm: Arm | None, against: str, every: list[Arm]) -> Arm | None:
    """By the run's own record; runs that were recorded without it are compared with the only setting."""
    if arm is not None and arm.planted is not None:
        return same_beta(arm, every)
    found = [a for a in every if a.method == against]
    return found[0] if len(found) == 1 else None


def _sentence(role: Role, seen: bool, found: str, least: float | None, margin: float) -> str:
    would = "" if least is None else f"; it would have detected {least:.3f} with chance 80 %"
    negative = "Its negative control, the same betas on other pairs, is"
    said: dict[tuple[Role, bool], str] = {
        ("positive", True): f"This matrix detected its planted effect ({found}){would}.",
        ("positive", False): "This matrix did not detect an effect that is there: its null results say nothing "
        f"({found}).",
        ("weak", True): f"This matrix detected its planted weaker effect ({found}).",
        ("weak", False): f"This matrix did not detect a weaker effect that is there ({found}).",
        ("negative", True): f"{negative} better where nothing was planted ({found}): its null results say nothing. "
        "One matrix in forty shows this by chance.",
        ("negative", False): f"{negative} not shown to be better by {margin:g} ({found}).",
    }
    return said[role, seen]


# Over what the intervals of a matrix generalise, and how the spread over seeds splits into data and order.
#
# A run's seed always sets the order of its pairs and the initialisation of what is trained. With `data.resample` it
# also sets which pairs it sees; where several seeds share a draw (`data.subsets`), their spread within draws is that
# of order and initialisation, and the rest is that of the data (one-way random effects; Searle, Casella and McCulloch
# 1992).


def _data(run: RunData) -> Mapping[str, Any]:
    return (run.identity or {}).get("data") or {}


def scope(matrix: MatrixData, all_arms: Sequence[Arm], baseline: Arm | None, primary: str | None) -> Scope:
    """The sentence for the report, and the split of each method's difference to the baseline on the primary metric."""
    counted = max((len({_data(r).get("content_hash") for r in arm.runs}) for arm in all_arms), default=0)
    drawn = next((_data(run) for run in matrix.runs if _data(run).get("pool")), None)
    always = "order of the training pairs, initialisation and prompts"
    sentence = (
        f"Intervals generalise over {always}. All seeds train on the same pairs, so they say nothing of other data."
    )
    if drawn is not None and counted > 1:
        sentence = (
            f"Intervals generalise over {always}, and over the pairs: each seed trains on {drawn.get('n_pairs')} of "
            f"{drawn['pool']}, {counted} different draws. They say nothing of other sources of data."
        )
    tested = [a for a in all_arms if a is not baseline and not a.is_control] if baseline and primary else []
    shares = [found for a in tested if baseline and primary and (found := _share(a, baseline, primary)) is not None]
    told = [
        f"{s.label} {s.sd_seeds:.3f} (data {s.sd_data:.3f}, order and initialisation {s.sd_order:.3f}, {s.draws} draws)"
        for s in shares
    ]
    words = f"Standard deviation over seeds of the difference to the baseline: {'; '.join(told)}." if told else None
    return Scope(sentence=sentence, seed_spread=words, shares=shares)


def _share(arm: Arm, baseline: Arm, primary: str) -> Share | None:
    benchmark, metric = primary.split("/", 1)
    draw = {r.seed: _data(r).get("content_hash") for r in baseline.runs}
    pairs = column_pairs(arm, baseline, None, benchmark, metric)[0]
    cells = [(draw.get(pair[0].seed), paired_grid([pair])[1]) for pair in pairs]
    groups = grouped((drawn, float(found.mean())) for drawn, found in cells if found.size)
    split = nested(list(groups.values()))
    if split is None:
        return None
    names = dict(zip(("sd_seeds", "sd_data", "sd_order"), split, strict=True))
    return Share(label=arm.label, against=baseline.label, draws=len(groups), **names)


def nested(groups: Sequence[Sequence[float]]) -> tuple[float, float, float] | None:
    """Standard deviations over all seeds, between groups and within them; None without two groups, one of two or more.

    Groups may differ in size; a negative component counts as zero.
    """
    sizes = np.array([len(group) for group in groups], dtype=float)
    total, count = float(sizes.sum()), len(groups)
    if count < 2 or total <= count:
        return None
    means = np.array([np.mean(group) for group in groups])
    centre = float((sizes * means).sum() / total)
    within = sum(float(((np.array(g) - m) ** 2).sum()) for g, m in zip(groups, means, strict=True)) / (total - count)
    between = float((sizes * (means - centre) ** 2).sum()) / (count - 1)
    even = (total - float((sizes**2).sum()) / total) / (count - 1)
    data = max(0.0, (between - within) / even)
    return math.sqrt(data + within), math.sqrt(data), math.sqrt(within)
