"""Assemble summary.json: what ran, what it scored, what differs, what that is worth. The records are in reports/schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reports.beta import beta_summary
from reports.beta.drift import collapse_of
from reports.beta.run import Analysed
from reports.compare import aggregate, frontiers, strata, tuning
from reports.compare.comparison import MatchedKL, arm_summary, column, method_comparison, policy_estimate
from reports.compare.contamination import contamination_summary
from reports.compare.corrected import corrected
from reports.compare.engine import engine_summary
from reports.compare.grids import arm_grids, lender
from reports.compare.judges import judges_summary
from reports.compare.noise_floor import noise_floor
from reports.compare.over_reference import over_reference, run_over_reference
from reports.page.provenance import provenance
from reports.runs.arms import Arm, arm_of, arms, contrasts
from reports.runs.checkpoints import failed_checkpoints
from reports.runs.records import REFERENCE_ID, MatrixData, ReportError, RunData, finite, load_scores
from reports.schema.base import AdjustedP, Estimate
from reports.schema.metrics import Comparison, Metric, Paired
from reports.schema.runs import Provenance, RunEntry
from reports.schema.summary import Baseline, Counts, Primary, Summary
from reports.schema.tables import Aggregate, Frontiers, Strata, Tuning
from reports.schema.verdict import Claims, Inference, OverReference, TestCounts, Verdict
from reports.statistics.multiplicity import benjamini_hochberg, holm
from reports.verdict.checklist import checklist
from reports.verdict.claims import ClaimError, parse_claims, read_claims, verify
from reports.verdict.inference import inference, nothing
from reports.verdict.judged import Judged, judge_matrix
from reports.verdict.methods import answer, verdict
from reports.verdict.plan import PlanState, plan_state
from reports.verdict.scope import scope
from reports.verdict.sensitivity import sensitivity
from reports.verdict.sentences import judged_claim
from reports.writing import jsonable
from trainers.common.scores_schema import scores_path

FINAL_KEYS = ("loss", "loss_at_beta0", "delta", "dynamic_beta", "log_prompt_perplexity", "rewards/accuracies")
_NO_CLAIMS = Claims(frozen=None, sha256=None, reason="one run can settle no claim", changes=[], judged=[])
_CORRECTION = (
    "Holm over the declared comparisons (methods under test, primary metric, against the baseline), "
    "Benjamini-Hochberg over the exploratory ones; checkpoint-level p-values are not adjusted"
)
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


class _Status(NamedTuple):
    """Of a comparison with the baseline on the primary metric: why it is exploratory, None where it was declared."""

    exploratory: str | None


class _Known(NamedTuple):
    """A metric that methods can be compared on."""

    benchmark: str
    metric: str
    benchmark_primary: bool
    higher_is_better: bool

    @property
    def name(self) -> str:
        return f"{self.benchmark}/{self.metric}"


def _metrics_of(matrix: MatrixData) -> list[_Known]:
    """Every metric that was scored, the benchmark's primary one first; descriptions, such as a length, are none."""
    found: dict[tuple[str, str], _Known] = {}
    for benchmark in matrix.benchmarks:
        for scores in (table for table in matrix.tables if table.benchmark == benchmark):
            for name in (scores.primary_metric, *sorted(scores.metrics)):
                better = scores.metrics.get(name, {"higher_is_better": None}).get("higher_is_better", True)
                if better is not None:
                    known = _Known(benchmark, name, name == scores.primary_metric, bool(better))
                    found.setdefault((benchmark, name), known)
    return list(found.values())


def _description(matrix: MatrixData, known: _Known) -> str | None:
    """What the metric measures, as the score files say it, or at least the reward that the matrix file names."""
    tables = [table.descriptions for table in matrix.tables if table.benchmark == known.benchmark]
    said = next((descriptions[known.metric] for descriptions in tables if known.metric in descriptions), None)
    stated = (matrix.config.get("evaluation") or {}).get("benchmarks") or []
    named = [one for one in stated if isinstance(one, Mapping) and one.get("name") == known.benchmark]
    reward = next((one.get("reward") for one in named), None)
    name = reward.get("kind") if isinstance(reward, Mapping) else reward
    return said or (f"reward {name}" if name and known.metric == "gold_reward" else None)


def _baseline_family(matrix: MatrixData, all_arms: Sequence[Arm]) -> list[Arm]:
    """Every setting of the baseline."""
    report = matrix.config.get("report") or {}
    name = report.get("baseline") or "fixed"
    family = [a for a in all_arms if a.method == name or a.label == name]
    return family or ([] if "baseline" in report else [a for a in all_arms if a.rule == name])


def _pick_baseline(matrix: MatrixData, all_arms: Sequence[Arm], primary: str | None) -> tuple[Arm | None, str | None]:
    """The baseline's arm; of several settings the one with the best primary metric, the hardest to beat."""
    family = _baseline_family(matrix, all_arms)
    if not family:
        return None, f"no run of the baseline {(matrix.config.get('report') or {}).get('baseline') or 'fixed'!r}"
    if len(family) == 1 or primary is None:
        return family[0], None
    known = next(k for k in _metrics_of(matrix) if k.name == primary)

    def level(arm: Arm) -> float:
        mean = arm_summary(arm, known.benchmark, known.metric).mean.value
        return float("-inf") if mean is None else mean if known.higher_is_better else -mean

    note = f"best of {len(family)} settings on {primary}, the hardest to beat; comparisons with it pay for the choice"
    return max(family, key=level), note


def _pick_primary(matrix: MatrixData, known: Sequence[_Known]) -> Primary:
    wanted = (matrix.config.get("report") or {}).get("primary")
    if wanted and wanted not in [k.name for k in known]:
        return Primary(value=None, reason=f"the declared metric {wanted!r} was not scored")
    value = wanted or next((k.name for k in known if k.benchmark_primary), None)
    return Primary(value=value, reason=None if value else "no benchmark was scored")


def baseline_label(matrix: MatrixData) -> str | None:
    """The label of the arm that a matrix's other arms are compared with; None where there is none."""
    primary = _pick_primary(matrix, _metrics_of(matrix))
    baseline, _ = _pick_baseline(matrix, arms(matrix.runs), primary.value)
    return None if baseline is None else baseline.label


def _metrics(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    baseline: Arm | None,
    known: Sequence[_Known],
    primary: str | None,
    plan: PlanState,
) -> tuple[list[Metric], TestCounts]:
    """Every metric with its comparisons, whose p-values are corrected: the first ones by Holm, the others by their own family.

    The first ones, of methods under test with the baseline on the primary metric, are declared where they are as planned.
    """
    reference = matrix.reference.scores if matrix.reference else {}
    pairs: list[tuple[Arm, Arm | None]] = [*contrasts(all_arms, baseline)]
    family = _baseline_family(matrix, all_arms)

    def compared(k: _Known) -> list[Paired]:
        lend = lender(arm_grids(all_arms, k.benchmark, k.metric))
        found = []
        for first, second in (*pairs, *((arm, None) for arm in all_arms if k.benchmark in reference)):
            # The baseline's setting was picked on the primary metric: there its luck is in the difference.
            chosen = second is not None and second is baseline and k.name == primary
            others = [a for a in family if chosen and a is not second and a is not first]
            asked = reference.get(k.benchmark), k.benchmark, k.metric, lend, others, k.higher_is_better
            found.append(method_comparison(first, second, *asked))
        return found

    paired = [(k, comparison) for k in known for comparison in compared(k)]
    # First is a method under test, no control and no other setting of the baseline, against it on the primary metric.
    tested = {a.label: a.method for a in all_arms if baseline and a.method != baseline.method and not a.is_control}
    leading = [
        k.name == primary and baseline is not None and c.against == baseline.label and c.label in tested
        for k, c in paired
    ]
    adjusted: dict[int, AdjustedP] = {}
    counts = []
    for own, correct, method in ((True, holm, "Holm"), (False, benjamini_hochberg, "Benjamini-Hochberg")):
        places = [i for i, is_first in enumerate(leading) if is_first is own]
        values = corrected([paired[i][1].crossed_test for i in places], correct, method)
        adjusted |= zip(places, values, strict=True)
        counts.append(sum(p.value is not None for p in values))

    def status(known: _Known, one: Paired, is_first: bool) -> _Status | None:
        if not is_first or baseline is None:
            return None
        return _Status(plan.why((tested[one.label], baseline.method), known.benchmark, first=True))

    rows = [
        (k, c, status(k, c, is_first), adjusted[i])
        for i, ((k, c), is_first) in enumerate(zip(paired, leading, strict=True))
    ]
    late = sum(row[2] is not None and row[2].exploratory is not None and row[3].value is not None for row in rows)
    counts = [counts[0] - late, counts[1] + late]
    metrics = [_metric(matrix, all_arms, k, primary, [row[1:] for row in rows if row[0] is k]) for k in known]
    checkpoints = sum(pair.test is not None for _, c in paired for pair in c.checkpoints)
    return metrics, TestCounts(
        declared=counts[0], exploratory=counts[1], checkpoint_level=checkpoints, correction=_CORRECTION
    )


def _metric(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    known: _Known,
    primary: str | None,
    rows: Sequence[tuple[Paired, _Status | None, AdjustedP]],
) -> Metric:
    benchmark, metric, own_primary, better = known
    reference = matrix.reference.scores.get(benchmark) if matrix.reference else None
    methods = [arm_summary(arm, benchmark, metric) for arm in all_arms]
    comparisons = [
        Comparison(
            **dict(c),
            family="declared" if status is not None and status.exploratory is None else "exploratory",
            exploratory_because=None if status is None else status.exploratory,
            adjusted_p=p,
            verdict=verdict(c, better, p),
        )
        for c, status, p in rows
    ]
    return Metric(
        benchmark=benchmark,
        metric=metric,
        description=_description(matrix, known),
        higher_is_better=better,
        benchmark_primary=own_primary,
        primary=known.name == primary,
        reference=Estimate.from_result(policy_estimate(column(reference, metric, None))) if reference else None,
        methods=methods,
        comparisons=comparisons,
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
    all_arms, known = arms(matrix.runs), _metrics_of(matrix)
    labels = arm_of(all_arms)
    primary = _pick_primary(matrix, known)
    baseline, note = _pick_baseline(matrix, all_arms, primary.value)
    if kind == "run":
        baseline, note = None, "one run has nothing to be compared with"
    known = sorted(known, key=lambda k: k.name != primary.value)
    try:
        plan = PlanState() if kind == "run" else plan_state(matrix)
    except ClaimError as error:
        raise ReportError(str(error)) from error
    metrics, tests = _metrics(matrix, all_arms, baseline, known, primary.value, plan)
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
