"""Assemble summary.json: what ran, what it scored, what differs, what that is worth. The records are in reports/schema."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.beta import Analysed, beta_summary, collapse_of
from reports.compare import frontiers, strata, tuning
from reports.compare.comparison import MatchedKL
from reports.compare.judges import judges_summary
from reports.compare.on_record import contamination_summary, engine_summary, noise_floor
from reports.compared import (
    compared_metrics,
    metrics_of,
    over_reference,
    pick_baseline,
    pick_primary,
    run_over_reference,
)
from reports.runs import (
    REFERENCE_ID,
    MatrixData,
    ReportError,
    RunData,
    arm_of,
    arms,
    error_text,
    failed_checkpoints,
    finite,
    load_scores,
)
from reports.schema import Baseline, Claims, Counts, OverReference, Provenance, RunEntry, Summary, Verdict
from reports.verdict.checklist import checklist
from reports.verdict.claims import ClaimError, parse_claims, read_claims, verify
from reports.verdict.inference import answer, inference, nothing
from reports.verdict.instrument import scope, sensitivity
from reports.verdict.judged import Judged, judge_matrix
from reports.verdict.plan import PlanState, plan_state
from reports.verdict.sentences import judged_claim
from reports.writing import jsonable
from trainers.common.scores_schema import scores_path

FINAL_KEYS = ("loss", "loss_at_beta0", "delta", "dynamic_beta", "log_prompt_perplexity", "rewards/accuracies")
_NO_CLAIMS = Claims(frozen=None, sha256=None, reason="one run can settle no claim", changes=[], judged=[])
_ALONE = "one run has nothing to be compared with"
_UNCLAIMED = "no claim was declared"


def _run_entry(run: RunData, label: str) -> RunEntry:
    steps, status = run.steps, run.status or {}
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
        error=error_text(status),
        failed_checkpoints=failed_checkpoints(run),
        logged_steps=len(steps),
        diverged=any(r.get("loss") is not None and finite(r.get("loss")) is None for r in steps),
        final=last,
        collapse=collapse_of(run),
        benchmarks=sorted(run.scores),
    )


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


def _of_run(over: Sequence[OverReference]) -> Verdict:
    """What one run says: its difference to the reference."""
    of = next((row for row in over if row.difference is not None), None)
    span = "" if of is None or of.ci_low is None else f" (95 % {of.ci_low:+.3f} to {of.ci_high:+.3f})"
    said = (
        f"One run: {of.difference:+.3f}{span} on {of.metric} over the reference."
        if of
        else "One run, compared with nothing."
    )
    return Verdict(answer=[said], kind="exploratory", because="one run can settle no claim")


def build_summary(matrix: MatrixData, kind: str = "matrix", analysed: Mapping[str, Analysed] | None = None) -> Summary:
    """Everything the report says (no NaN; a null has a `reason` beside it).

    `kind` is "matrix" or "run"; one schema serves both, a single run is compared with the reference alone. `analysed`
    holds what `reports.beta` found in runs before, by run id; the others are analysed here.

    Raises:
        ReportError: a damaged file, or claims that cannot be read.
    """
    all_arms, known = arms(matrix.runs), metrics_of(matrix)
    labels, primary = arm_of(all_arms), pick_primary(matrix, known)
    baseline, note = (None, _ALONE) if kind == "run" else pick_baseline(matrix, all_arms, primary.value)
    known = sorted(known, key=lambda k: k.name != primary.value)
    try:
        plan = PlanState() if kind == "run" else plan_state(matrix)
    except ClaimError as error:
        raise ReportError(str(error)) from error
    metrics, tests = compared_metrics(matrix, all_arms, baseline, known, primary.value, plan)
    states = [r.state for r in matrix.runs]
    counts = Counts(
        planned=len(states),
        unfinished=sum(state != "done" for state in states),
        **{state: states.count(state) for state in ("done", "failed", "running", "pending", "missing")},
    )
    first = next((m for m in metrics if m.primary), None)
    seen, spread, claims, table, judges = None, None, _NO_CLAIMS, nothing(_ALONE), []
    tuned, paid, by_prompt = tuning.NOTHING, frontiers.nothing(_ALONE), strata.NOTHING
    if kind == "run":
        over = []
        if first and (path := scores_path(matrix.output_dir.parent.parent / REFERENCE_ID, first.benchmark)).exists():
            over = run_over_reference(all_arms[0], load_scores(path), first.metric)
        verdict = _of_run(over)
    else:
        over = over_reference(first)
        label, method = (baseline.label, baseline.method) if baseline else (None, None)
        controls = [a for a in all_arms if a.is_control]
        tuned = tuning.tuning_summary(all_arms, metrics, method, list(dict.fromkeys(a.method for a in controls)))
        paid = frontiers.frontier_summary(matrix, all_arms, primary.value, baseline)
        by_prompt = strata.strata_summary(matrix, all_arms, metrics, label, [a.label for a in controls])
        matched_kl = frontiers.matched_kl(matrix)
        seen, spread = sensitivity(matrix, primary.value, matched_kl), scope(matrix, all_arms, baseline, primary.value)
        counting = seen is None or seen.nulls_count
        claims, judged = claims_summary(matrix, matched_kl, plan, counting)
        table = inference(matrix, all_arms, baseline, first, paid, judged, matched_kl, counting)
        judges = judges_summary(matrix)
        reasons = [*(c.exploratory_because for c in claims.judged), *claims.changes] if claims.judged else [_UNCLAIMED]
        because = next(filter(None, reasons), None)
        said = answer(table, counts, over, first is None or first.higher_is_better, counting)
        verdict = Verdict(answer=said, kind="exploratory" if because else "declared", because=because)
    summary = Summary(
        schema_version=4,
        kind="run" if kind == "run" else "matrix",
        name=matrix.config.get("name"),
        baseline=Baseline(
            value=baseline.label if baseline else None,
            note=note if baseline else None,
            reason=None if baseline else note,
        ),
        primary=primary,
        counts=counts,
        verdict=verdict,
        inference=table,
        over_reference=over,
        sensitivity=seen,
        scope=spread,
        claims=claims,
        tests=tests,
        checklist=[],
        metrics=metrics,
        runs=[_run_entry(r, labels[r.run_id]) for r in matrix.runs],
        beta=beta_summary(matrix, all_arms, analysed),
        engine=engine_summary(matrix),
        contamination=contamination_summary(matrix),
        judges=judges,
        noise_floor=noise_floor(matrix, metrics),
        provenance=Provenance.model_validate(jsonable(provenance(matrix))),
        tuning=tuned,
        frontiers=paid,
        strata=by_prompt,
    )
    return summary.model_copy(update={"checklist": checklist(matrix, all_arms, baseline, summary)})


# What made the runs: model, data, versions, hardware, and how long each stage took.


def provenance(matrix: MatrixData) -> dict[str, Any]:
    """Model, data, versions and hardware of the runs; a field in which runs differ lists every value."""
    fields: dict[str, list[Any]] = {}
    for run in matrix.runs:
        for name in ("model", "data", "training", "lora", "versions", "hardware", "source"):
            value = (run.identity or {}).get(name)
            if value is not None and value not in fields.setdefault(name, []):
                fields[name].append(value)
    stages = {r.run_id: r.status.get("stages") or {} for r in matrix.runs if r.status}
    seconds = {
        run_id: {name: s for name, stage in found.items() if (s := finite(stage.get("seconds"))) is not None}
        for run_id, found in stages.items()
    }
    return {
        "fields": {name: values for name, values in fields.items() if values},
        "fingerprints": {r.run_id: r.identity.get("fingerprint") for r in matrix.runs if r.identity},
        "created": {r.run_id: r.identity.get("created") for r in matrix.runs if r.identity},
        "seconds": seconds,
    }
