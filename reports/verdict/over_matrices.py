"""Claims over several matrices, of other base models or data sets: random effects, judged as claims of one matrix are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from reports.compare.frontiers import matched_kl
from reports.compare.judges import with_length_control
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, finite, load_config, load_run
from reports.runs.subset import Source
from reports.schema import ClaimOverMatrices, ClaimVerdict, EffectOverMatrices, Estimate, MatrixEffect
from reports.statistics.family import Claimed, judge_family
from reports.statistics.over_matrices import FEWEST_MATRICES, MetaAnalysis, random_effects
from reports.verdict.claims import ASSERTIONS, Claim, ClaimError, parse_claims, read_claims, thaw
from reports.verdict.evidence import NOTHING, Contrast, gather


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
    judged: list[ClaimOverMatrices] = []
    for declared in (True, False):
        family = [claim for claim in shared if all(claim in claims for claims in frozen) is declared]
        found = [_effects(claim, matrices) for claim in family]
        needs = [
            Claimed((claim.method, claim.against, claim.metric), tuple(mean for _, mean in pairs), claim.min_effect)
            for claim, pairs in zip(family, found, strict=True)
        ]
        for claim, pairs, ruling in zip(family, found, judge_family(needs, declared=declared), strict=True):
            p = float(ruling.p["better"]) if ruling.testable and len(matrices) >= FEWEST_MATRICES else None
            judged.append(_record(claim, declared, [effect for effect, _ in pairs], ruling.word, p, len(family)))
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


def _effects(claim: Claim, matrices: Sequence[MatrixData]) -> list[tuple[EffectOverMatrices, MetaAnalysis | None]]:
    """Every comparison that the claim needs, by matrix and over all; None where a matrix lacks it."""
    evidence = [gather(matrix, claim, matched_kl(matrix)) for matrix in matrices]
    found = []
    for role in ASSERTIONS[claim.asserts]:
        rows = []
        for matrix, one in zip(matrices, evidence, strict=True):
            identity = next((run.identity for run in matrix.runs if run.identity), {}) or {}
            absent = Contrast(role, one.label, role, NOTHING, f"no control {role} was run")
            contrast = one.contrasts.get(role, absent)
            error = finite(contrast.mean.stderr)
            rows.append(
                MatrixEffect(
                    source=str(matrix.output_dir),
                    model=_name(identity.get("model")),
                    data=_name(identity.get("data")),
                    difference=finite(contrast.mean.value),
                    standard_error=error,
                    seeds=contrast.mean.seeds,
                    reason=None if error else contrast.reason or "no standard error",
                )
            )
        meta = None
        if not any(row.reason for row in rows):
            values = np.array([[row.difference, row.standard_error] for row in rows], dtype=float)
            meta = random_effects(values[:, 0], values[:, 1], min(row.seeds for row in rows))
        low, high = (None if meta is None else meta.new_matrix) or (None, None)
        effect = EffectOverMatrices(
            role=role,
            matrices=rows,
            mean=None if meta is None else meta.interval,
            between=None if meta is None else meta.between,
            share=None if meta is None else meta.share,
            new_low=low,
            new_high=high,
        )
        found.append((effect, meta))
    return found


def _name(part: object) -> str:
    """How a run's record calls its model or data."""
    if isinstance(part, Mapping):
        part = next((part[key] for key in ("name", "path", "train", "id") if part.get(key)), None)
    return "not recorded" if part is None else str(part)


def _record(
    claim: Claim, declared: bool, effects: list[EffectOverMatrices], word: ClaimVerdict, p: float | None, family: int
) -> ClaimOverMatrices:
    first, kind = effects[0], "" if declared else "exploratory, "
    text = f"{claim.name} over {len(first.matrices)} matrices ({kind}{claim.asserts}): "
    absent = [row for effect in effects for row in effect.matrices if row.reason]
    if absent:
        text += f"not judged: {absent[0].source} has no difference: {absent[0].reason}."
    elif first.mean is None or first.mean.low is None:
        text += f"not judged, mean {_signed(first.mean)}: {first.mean.note if first.mean else 'nothing to combine'}."
    else:
        against = [claim.against if e.role == "baseline" else e.role for e in effects]
        means = ", ".join(f"{_signed(e.mean)} (against {other})" for e, other in zip(effects, against, strict=True))
        text += (
            f"{word.replace('more than m', f'more than {claim.min_effect:g}')}: {claim.method} on {claim.metric} {means}; "
            f"in another matrix {first.new_low:+.3g} to {first.new_high:+.3g}; SD between matrices {first.between:.3g}"
        )
        text += "." if p is None else f"; adjusted p = {p:.2g} over {family} claim{'' if family == 1 else 's'}."
    return ClaimOverMatrices(
        name=claim.name, claim=asdict(claim), declared=declared, verdict=word, sentence=text, adjusted_p=p,
        family_size=family, effects=effects,
    )  # fmt: skip


def _signed(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "unknown"
    ends = "" if found.low is None or found.high is None else f" (95 % {found.low:+.3g} to {found.high:+.3g})"
    return f"{found.value:+.3g}{ends}"
