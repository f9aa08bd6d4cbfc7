"""Claims over several matrices, of other base models or data sets: random effects, judged as claims of one matrix are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from reports.compare.frontiers import matched_kl
from reports.compare.judges import with_length_control
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, finite, load_config, load_run
from reports.runs.subset import Source
from reports.schema.base import Estimate
from reports.schema.verdict import ClaimOverMatrices, EffectOverMatrices, MatrixEffect
from reports.statistics.best_settings import BestMean
from reports.statistics.crossed import CrossedMean
from reports.statistics.family import Claimed, judge_family
from reports.statistics.over_matrices import FEWEST_MATRICES, MetaAnalysis, random_effects
from reports.verdict.claims import ASSERTIONS, Claim, ClaimError, parse_claims, read_claims, thaw
from reports.verdict.evidence import NOTHING, Evidence, gather


@dataclass(frozen=True, slots=True)
class _Found:
    claim: Claim
    declared: bool
    effects: tuple[EffectOverMatrices, ...]
    means: tuple[MetaAnalysis | None, ...]


def over_matrices(
    sources: Sequence[Source], methods: Sequence[str], baseline: str | None, primary: str | None
) -> list[ClaimOverMatrices]:
    """The claims that every matrix makes, on all its runs; and each method against the baseline on the primary metric.

    Declared is a claim that every matrix froze; the declared ones are one family (closed ladders, Holm), the others another
    (Benjamini-Hochberg). With fewer than three matrices nothing is judged. Nothing for a single matrix.

    Args:
        methods: names of the methods that were picked, for what no claim is about.

    Raises:
        ReportError: claims that cannot be read.
    """
    if len(sources) < 2:
        return []
    matrices = [_matrix(source) for source in sources]
    stated, frozen = zip(*map(_claims, matrices), strict=True)
    shared = [claim for claim in stated[0] if all(claim in others for others in stated[1:])]
    about = {(claim.method, claim.against, claim.metric) for claim in shared}
    if baseline is not None and primary is not None:
        shared += [
            Claim(f"{method} against {baseline}", method, baseline, primary)
            for method in methods
            if method != baseline and (method, baseline, primary) not in about
        ]
    found = [_gathered(claim, all(claim in claims for claims in frozen), matrices) for claim in shared]
    judged: list[ClaimOverMatrices] = []
    for declared in (True, False):
        family = [one for one in found if one.declared is declared]
        needs = [
            Claimed((c.claim.method, c.claim.against, c.claim.metric), c.means, c.claim.min_effect) for c in family
        ]
        for one, ruling in zip(family, judge_family(needs, declared=declared) if family else [], strict=True):
            p = float(ruling.p["better"]) if ruling.testable and len(matrices) >= FEWEST_MATRICES else None
            judged.append(_record(one, ruling.word, p, len(family)))
    return judged


def _claims(matrix: MatrixData) -> tuple[list[Claim], list[Claim]]:
    """The claims that a matrix makes, and those that it froze."""
    try:
        kept = read_claims(matrix.output_dir)
        return parse_claims(matrix.config.get("claims") or []), thaw(kept)[0] if kept else []
    except ClaimError as error:
        raise ReportError(f"{matrix.output_dir}: {error}") from None


def _matrix(source: Source) -> MatrixData:
    folder = source.root / REFERENCE_ID
    reference = load_run(folder, REFERENCE_ID) if folder.is_dir() else None
    return with_length_control(MatrixData(source.root, source.runs, reference, load_config(source.root)))


def _gathered(claim: Claim, declared: bool, matrices: Sequence[MatrixData]) -> _Found:
    evidence = [gather(matrix, claim, matched_kl(matrix)) for matrix in matrices]
    roles = ASSERTIONS[claim.asserts]
    pairs = [_effect(role, matrices, evidence) for role in roles]
    return _Found(claim, declared, tuple(effect for effect, _ in pairs), tuple(mean for _, mean in pairs))


def _effect(
    role: str, matrices: Sequence[MatrixData], evidence: Sequence[Evidence]
) -> tuple[EffectOverMatrices, MetaAnalysis | None]:
    rows = [_of_one(role, matrix, found) for matrix, found in zip(matrices, evidence, strict=True)]
    if any(row.reason for row in rows):
        return EffectOverMatrices(
            role=role, matrices=rows, mean=None, between=None, share=None, new_low=None, new_high=None
        ), None
    values = np.array([[row.difference, row.standard_error] for row in rows], dtype=float)
    meta = random_effects(values[:, 0], values[:, 1], min(row.seeds for row in rows))
    low, high = meta.new_matrix or (None, None)
    return EffectOverMatrices(
        role=role, matrices=rows, mean=meta.interval, between=meta.between, share=meta.share, new_low=low, new_high=high
    ), meta


def _of_one(role: str, matrix: MatrixData, found: Evidence) -> MatrixEffect:
    identity = next((run.identity for run in matrix.runs if run.identity), {}) or {}
    contrast = found.contrasts.get(role)
    mean: CrossedMean | BestMean = NOTHING
    why = f"no control {role} was run"
    if contrast is not None:
        mean, why = contrast.mean, contrast.reason or "no standard error"
    error = finite(mean.stderr)
    return MatrixEffect(
        source=str(matrix.output_dir),
        model=_name(identity.get("model")),
        data=_name(identity.get("data")),
        difference=finite(mean.value),
        standard_error=error,
        seeds=mean.seeds,
        reason=None if error else why,
    )


def _name(part: object) -> str:
    """How a run's record calls its model or data."""
    if isinstance(part, Mapping):
        part = next((part[key] for key in ("name", "path", "train", "id") if part.get(key)), None)
    return "not recorded" if part is None else str(part)


def _record(found: _Found, word: str, p: float | None, family: int) -> ClaimOverMatrices:
    claim, first = found.claim, found.effects[0]
    count = len(first.matrices)
    kind = "" if found.declared else "exploratory, "
    head = f"{claim.name} over {count} matrices ({kind}{claim.asserts})"
    said = word.replace("more than m", f"more than {claim.min_effect:g}")
    absent = [row for effect in found.effects for row in effect.matrices if row.reason]
    if absent:
        text = f"{head}: not judged: {absent[0].source} has no difference: {absent[0].reason}."
    elif first.mean is None or first.mean.low is None:
        text = f"{head}: not judged, mean {_signed(first.mean)}: {first.mean.note if first.mean else 'nothing to combine'}."
    else:
        means = ", ".join(f"{_signed(e.mean)} ({_role(e.role, claim)})" for e in found.effects)
        text = (
            f"{head}: {said}: {claim.method} on {claim.metric} {means}; in another matrix "
            f"{first.new_low:+.3g} to {first.new_high:+.3g}; SD between matrices {first.between:.3g}"
        )
        text += "." if p is None else f"; adjusted p = {p:.2g} over {family} claim{'' if family == 1 else 's'}."
    return ClaimOverMatrices(
        name=claim.name, claim=asdict(claim), declared=found.declared, verdict=word, sentence=text,  # type: ignore[arg-type]
        adjusted_p=p, family_size=family, effects=list(found.effects),
    )  # fmt: skip


def _role(role: str, claim: Claim) -> str:
    return f"against {claim.against}" if role == "baseline" else f"against {role}"


def _signed(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "unknown"
    ends = "" if found.low is None or found.high is None else f" (95 % {found.low:+.3g} to {found.high:+.3g})"
    return f"{found.value:+.3g}{ends}"
