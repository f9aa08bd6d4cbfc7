"""Assemble summary.json: what ran, what it scored, what differs, what that is worth. The records are in reports/schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reports.beta import beta_summary
from reports.beta.drift import collapse_of
from reports.beta.run import Analysed
from reports.compare import aggregate, frontiers, strata, tuning
from reports.compare.comparison import MatchedKL
from reports.compare.contamination import contamination_summary
from reports.compare.engine import engine_summary
from reports.compare.judges import judges_summary
from reports.compare.noise_floor import noise_floor
from reports.compare.over_reference import over_reference, run_over_reference
from reports.compared import compared_metrics, metrics_of, pick_baseline, pick_primary
from reports.page.provenance import provenance
from reports.runs.arms import Arm, arm_of, arms
from reports.runs.checkpoints import failed_checkpoints
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, RunData, finite, load_scores
from reports.schema.metrics import Metric
from reports.schema.runs import Provenance, RunEntry
from reports.schema.summary import Baseline, Counts, Summary
from reports.schema.tables import Aggregate, Frontiers, Strata, Tuning
from reports.schema.verdict import Claims, Inference, OverReference, Verdict
from reports.verdict.checklist import checklist
from reports.verdict.claims import ClaimError, parse_claims, read_claims, verify
from reports.verdict.inference import inference, nothing
from reports.verdict.judged import Judged, judge_matrix
from reports.verdict.methods import answer
from reports.verdict.plan import PlanState, plan_state
from reports.verdict.scope import scope
from reports.verdict.sensitivity import sensitivity
from reports.verdict.sentences import judged_claim
from reports.writing import jsonable
from trainers.common.scores_schema import scores_path

FINAL_KEYS = ("loss", "loss_at_beta0", "delta", "dynamic_beta", "log_prompt_perplexity", "rewards/accuracies")
_NO_CLAIMS = Claims(frozen=None, sha256=None, reason="one run can settle no claim", changes=[], judged=[])
_ALONE = "one run has nothing to be compared with"


def _run_entry(run: RunData, label: str) -> RunEntry:
    steps, status, collapse = run.steps, run.status or {}, collapse_of(run)
    last = {k: next((v for r in reversed(steps) if (v := finite(r.get(k))) is not None), None) for k in FINAL_KEYS}
    return RunEntry(
        run_id=run.run_id,
        method=run.method,
        label=label,
        rule=run.rule,
        seed=run.seed,
        settings=jsonable(run.settings),
        state=run.state,
        stage=status.get("stage"),
        step=status.get("step"),
        total_steps=status.get("total_steps"),
        error=run.error,
        failed_checkpoints=failed_checkpoints(run),
        logged_steps=len(steps),
        diverged=any(r.get("loss") is not None and finite(r.get("loss")) is None for r in steps),
        final=last,
        collapse=collapse,
        benchmarks=sorted(run.scores),
    )


class _Compared(NamedTuple):
    """The parts that compare methods beyond single metrics."""

    tuning: Tuning
    frontiers: Frontiers
    aggregate: Aggregate
    strata: Strata


def claims_summary(
    matrix: MatrixData, matched_kl: MatchedKL, plan: PlanState, nulls_count: bool
) -> tuple[Claims, list[Judged]]:
    """The declared claims judged, when they and the plan were frozen, and what was changed since."""
    try:
        current = parse_claims(matrix.config.get("claims") or [])
        frozen = read_claims(matrix.output_dir)
        changes = verify(frozen, current) if frozen else []
        changes += [f"the analysis plan was changed after it was frozen: {change}" for change in plan.changes]
        judged = judge_matrix(matrix, current, frozen, matched_kl, plan, nulls_count)
    except ClaimError as error:
        raise ReportError(str(error)) from error
    claims = Claims(
        frozen=frozen["frozen"] if frozen else None,
        sha256=frozen["sha256"] if frozen else None,
        reason=None if frozen else "no claims.json: no plan was frozen before training",
        changes=changes,
        judged=[judged_claim(one) for one in judged],
    )
    return claims, judged


def _verdict(
    kind: str,
    found: Inference,
    claims: Claims,
    over: Sequence[OverReference],
    counts: Counts,
    better: bool,
    counting: bool,
) -> Verdict:
    if kind == "run":
        of = next((row for row in over if row.difference is not None), None)
        span = "" if of is None or of.ci_low is None else f" (95 % {of.ci_low:+.3f} to {of.ci_high:+.3f})"
        said = "One run, compared with nothing."
        if of is not None:
            said = f"One run: {of.difference:+.3f}{span} on {of.metric} over the reference."
        return Verdict(answer=[said], kind="exploratory", because="one run can settle no claim")
    late = [c.exploratory_because for c in claims.judged if c.exploratory_because]
    because = next(iter([*late, *claims.changes]), None) if claims.judged else "no claim was declared"
    return Verdict(
        answer=answer(found, counts, over, better, counting),
        kind="exploratory" if because else "declared",
        because=because,
    )


def _run_over_reference(matrix: MatrixData, arm: Arm, metrics: Sequence[Metric]) -> list[OverReference]:
    """A single run against the reference of its matrix."""
    first = next((m for m in metrics if m.primary), None)
    if first is None:
        return []
    path = scores_path(matrix.output_dir.parent.parent / REFERENCE_ID, first.benchmark)
    return run_over_reference(arm, load_scores(path), first.metric) if path.exists() else []


def build_summary(matrix: MatrixData, kind: str = "matrix", analysed: Mapping[str, Analysed] | None = None) -> Summary:
    """Everything the report says (no NaN; a null has a `reason` beside it).

    `kind` is "matrix" or "run"; one schema serves both, a single run is compared with the reference alone. `analysed`
    holds what `reports.beta` found in runs before, by run id; the others are analysed here.

    Raises:
        ReportError: a damaged file, or claims that cannot be read.
    """
    all_arms, known = arms(matrix.runs), metrics_of(matrix)
    labels = arm_of(all_arms)
    primary = pick_primary(matrix, known)
    baseline, note = pick_baseline(matrix, all_arms, primary.value)
    if kind == "run":
        baseline, note = None, "one run has nothing to be compared with"
    known = sorted(known, key=lambda k: k.name != primary.value)
    try:
        plan = PlanState() if kind == "run" else plan_state(matrix)
    except ClaimError as error:
        raise ReportError(str(error)) from error
    metrics, tests = compared_metrics(matrix, all_arms, baseline, known, primary.value, plan)
    seen, counting = None, True
    states = [r.state for r in matrix.runs]
    counts = Counts(
        planned=len(states),
        unfinished=sum(state != "done" for state in states),
        **{state: states.count(state) for state in ("done", "failed", "running", "pending", "missing")},
    )
    controls = [a for a in all_arms if a.is_control]
    first = next((m for m in metrics if m.primary), None)
    table, claims = nothing(_ALONE), _NO_CLAIMS
    if kind == "run":
        over = _run_over_reference(matrix, all_arms[0], metrics)
        compared = _Compared(tuning.NOTHING, frontiers.nothing(_ALONE), aggregate.NOTHING, strata.NOTHING)
    else:
        over = over_reference(first)
        label, control_labels = baseline.label if baseline else None, [a.label for a in controls]
        compared = _Compared(
            tuning.tuning_summary(
                all_arms,
                metrics,
                baseline.method if baseline else None,
                list(dict.fromkeys(a.method for a in controls)),
            ),
            frontiers.frontier_summary(matrix, all_arms, primary.value, baseline),
            aggregate.aggregate_summary(metrics, label),
            strata.strata_summary(matrix, all_arms, metrics, label, control_labels),
        )
        matched_kl = frontiers.matched_kl(matrix)
        seen = sensitivity(matrix, primary.value, matched_kl)
        counting = seen is None or seen.nulls_count
        claims, judged = claims_summary(matrix, matched_kl, plan, counting)
        table = inference(matrix, all_arms, baseline, first, compared.frontiers, judged, matched_kl, counting)
    beta = beta_summary(matrix, all_arms, analysed)
    summary = Summary(
        schema_version=3,
        kind="run" if kind == "run" else "matrix",
        name=matrix.config.get("name"),
        baseline=Baseline(
            value=baseline.label if baseline else None,
            note=note if baseline else None,
            reason=None if baseline else note,
        ),
        primary=primary,
        counts=counts,
        verdict=_verdict(kind, table, claims, over, counts, first is None or first.higher_is_better, counting),
        inference=table,
        over_reference=over,
        sensitivity=seen,
        scope=scope(matrix, all_arms, baseline, primary.value) if kind == "matrix" else None,
        claims=claims,
        tests=tests,
        checklist=[],
        metrics=metrics,
        runs=[_run_entry(r, labels[r.run_id]) for r in matrix.runs],
        beta=beta,
        engine=engine_summary(matrix),
        contamination=contamination_summary(matrix),
        judges=judges_summary(matrix) if kind == "matrix" else [],
        noise_floor=noise_floor(matrix, metrics),
        provenance=Provenance.model_validate(jsonable(provenance(matrix))),
        **compared._asdict(),
    )
    return summary.model_copy(update={"checklist": checklist(matrix, all_arms, baseline, summary)})
