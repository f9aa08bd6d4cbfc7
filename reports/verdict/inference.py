"""The table of the report: every method against the baseline on the primary metric, judged as claims are."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from reports.compare.comparison import MatchedKL, interval_of
from reports.compare.grids import arm_grids, lender
from reports.runs.arms import Arm
from reports.runs.records import REFERENCE_ID, MatrixData
from reports.schema.base import AdjustedP, Estimate
from reports.schema.metrics import Metric
from reports.schema.tables import Frontiers
from reports.schema.verdict import Inference, InferenceRow, Level
from reports.statistics.crossed import CrossedMean
from reports.statistics.design import LEAST_SEEDS, minimum_detectable_effect
from reports.verdict.claims import Claim
from reports.verdict.evidence import gather
from reports.verdict.judged import Judged, judge
from reports.verdict.sentences import attribution_text, to_settle

_MODEL = (
    "paired differences with seeds and prompts as crossed samples (Satterthwaite t, the spread over seeds moderated over all "
    "arms), 95 % intervals; p-values adjusted over the methods; below five seeds nothing is tested"
)


def nothing(reason: str) -> Inference:
    """The part of a summary that has no such table, and why."""
    return Inference(metric=None, at="final", model=_MODEL, length_metric=None, levels=[], rows=[], reason=reason)


def inference(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    baseline: Arm | None,
    primary: Metric | None,
    frontiers: Frontiers,
    judged: Sequence[Judged],
    matched_kl: MatchedKL,
    nulls_count: bool = True,
) -> Inference:
    """One row a method, at equal KL where the claims say so or, without claims, where every method can be compared there.

    `judged` are the claims of the matrix file: a method with a claim against the baseline has that claim's correction and
    smallest effect. The others form a family of their own, and so do the controls. Without `nulls_count` the matrix did not
    see an effect that is there, and equivalent becomes undecided.
    """
    if baseline is None or primary is None:
        return nothing("no primary metric" if baseline else "no baseline")
    about = [
        j for j in judged if j.claim.metric == primary.name and j.claim.against in (baseline.method, baseline.label)
    ]
    # controls of `sensitivity` are the instrument's: they are compared with a fixed beta on their own labels
    others = [arm for arm in all_arms if arm.method != baseline.method and arm.planted is None]
    controls = {arm.method: arm.is_control for arm in others}
    lend = lender(arm_grids(all_arms, primary.benchmark, primary.metric))

    def family(at: str) -> dict[str, Judged]:
        """The judged comparisons of all methods, by method."""
        found = {j.claim.method: j for j in reversed(about) if j.claim.at == at}
        window = next((j.claim.window for j in found.values()), None)  # one measure for every row
        rest = [Claim(m, m, baseline.method, primary.name, at=at, window=window) for m in controls if m not in found]
        every = [(claim, gather(matrix, claim, matched_kl, lend)) for claim in rest]
        other = "no claim of the matrix file" if found else None
        why = ["a control" if controls[claim.method] else other for claim in rest]
        return found | dict(zip((c.method for c in rest), judge(every, why), strict=True))

    at = about[0].claim.at if about else "matched_kl" if frontiers.comparisons else "final"
    found = family(at)
    if not about and any(j.evidence.contrasts["baseline"].mean.stderr is None for j in found.values()):
        at, found = "final", family("final")
    levels = {row.label: row for row in _levels(all_arms, primary, frontiers)}
    rows = [
        _row(found[m], controls[m], levels, any(found[m] is j for j in about), nulls_count)
        for m in sorted(controls, key=lambda m: controls[m])
    ]
    lengths = (p.length_metric for p in frontiers.points if p.length_metric)
    return Inference(
        metric=primary.name,
        at="matched_kl" if at == "matched_kl" else "final",
        model=_MODEL,
        length_metric=next(lengths, None),
        levels=[levels[label] for label in (REFERENCE_ID, baseline.label) if label in levels],
        rows=rows,
        reason=None if rows else "no method beside the baseline",
    )


def _levels(all_arms: Sequence[Arm], primary: Metric, frontiers: Frontiers) -> list[Level]:
    """Score, KL and length of the reference and of every arm: means over its final policies."""
    scores = {REFERENCE_ID: primary.reference, **{arm.label: arm.mean for arm in primary.methods}}

    def mean(label: str, key: str) -> float | None:
        final = [p for p in frontiers.points if p.label == label and (p.final or label == REFERENCE_ID)]
        values = [v for p in final if p.state != "failed" and (v := getattr(p, key)) is not None]
        return fmean(values) if values else None

    return [
        Level(label=label, score=score.value, kl=mean(label, "kl"), length=mean(label, "length"))
        for label in (REFERENCE_ID, *(arm.label for arm in all_arms))
        if (score := scores.get(label)) is not None
    ]


def _row(judged: Judged, control: bool, levels: dict[str, Level], claimed: bool, nulls_count: bool) -> InferenceRow:
    contrast, ruling, m = judged.evidence.contrasts["baseline"], judged.gain, judged.claim.min_effect
    mean, cells = contrast.mean, contrast.cells
    shown = mean.interval() if cells is None or not isinstance(mean, CrossedMean) else interval_of(mean, cells)
    word = "undecided" if ruling.word == "equivalent" and not nulls_count else ruling.word
    p = min(ruling.p["better"], ruling.p["worse"]) if word == "undecided" else ruling.p[word]
    why = None if ruling.testable else contrast.reason or f"fewer than {LEAST_SEEDS} paired seeds"
    detectable = None
    if ruling.testable and mean.stderr is not None and mean.degrees is not None and mean.degrees >= 1:
        detectable = minimum_detectable_effect(mean.stderr, mean.degrees)
    settle = to_settle(contrast, m)
    level = levels.get(contrast.first) or Level(label=contrast.first, score=None, kl=None, length=None)
    return InferenceRow(
        **dict(level),
        method=judged.claim.method,
        against=contrast.second,
        control=control,
        declared=claimed and judged.declared,
        difference=Estimate.from_result(shown),
        seed_differences=[] if cells is None or not cells.size else [float(d) for d in cells.mean(axis=1)],
        adjusted_p=AdjustedP(
            value=float(p) if ruling.testable else None,
            method=judged.correction,
            family_size=judged.family,
            reason=why,
        ),
        verdict=word,
        min_effect=m,
        detectable=detectable,
        seeds_needed=None if settle is None else settle.seeds,
        attribution=attribution_text(judged),
        failures=list(judged.evidence.failures),
        reason=contrast.reason or why,
    )
