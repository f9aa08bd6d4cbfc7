"""Assay sensitivity (ICH E10): did the matrix see the effect that was planted, and none where none was?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from reports.compare.comparison import MatchedKL
from reports.runs.arms import Arm, arms, same_beta
from reports.runs.records import MatrixData
from reports.schema.sensitivity import PlantedControl, Sensitivity
from reports.statistics.design import ALPHA, minimum_detectable_effect
from reports.statistics.family import HELPS, Claimed, judge_family
from reports.statistics.multiplicity import Look
from reports.verdict.claims import Claim, measures_kl
from reports.verdict.evidence import gather
from reports.verdict.sentences import interval_text

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
        look = Look(mean.seeds, tuple(looks)) if mean.seeds in looks else None
        ruling = judge_family([Claimed((), (contrast.comparison,), margin)], look=look)[0]
        seen = ruling.word in HELPS if role == "negative" else float(ruling.p["better"]) <= ALPHA
        known = interval.stderr is not None and mean.degrees is not None and mean.degrees >= 1
        least = minimum_detectable_effect(float(interval.stderr or 0.0), mean.degrees) if known else None
        where = f"{metric} at matched KL" if at == "matched_kl" else metric
        where += " over {:g} to {:g} nats".format(*claim.window) if claim.window else ""
        found = f"{names[0]} against {names[1]} on {where}: "
        found += f"no difference could be computed, {contrast.reason}" if mean.estimate is None else interval_text(mean)
        found += f", {mean.seeds} seeds x {mean.prompts} prompts"
        return PlantedControl(
            role=role,
            label=names[0],
            against=names[1],
            metric=metric,
            at=at,
            difference=interval.estimate,
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
    if role == "negative":
        if seen:
            return (
                f"Its negative control, the same betas on other pairs, is better where nothing was planted ({found}): its "
                "null results say nothing. One matrix in forty shows this by chance."
            )
        return (
            f"Its negative control, the same betas on other pairs, is not shown to be better by {margin:g} ({found})."
        )
    kind, weaker = ("effect", "an effect") if role == "positive" else ("weaker effect", "a weaker effect")
    if not seen:
        nothing = ": its null results say nothing" if role == "positive" else ""
        return f"This matrix did not detect {weaker} that is there{nothing} ({found})."
    would = f"; it would have detected {least:.3f} with chance 80 %" if least is not None and role == "positive" else ""
    return f"This matrix detected its planted {kind} ({found}){would}."
