"""Every metric with its comparisons, the baseline that they are with, and the primary metric; every method over the reference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reports.compare.comparison import (
    arm_summary,
    column,
    column_pairs,
    method_comparison,
    paired_grid,
    policy_estimate,
    tested,
)
from reports.compare.grids import arm_grids, lender
from reports.runs import REFERENCE_ID, Arm, MatrixData, Scores, arms, contrasts
from reports.schema import AdjustedP, Comparison, Family, Inferred, Metric, OverReference, Paired, Primary, TestCounts
from reports.statistics.multiplicity import corrected
from reports.verdict.inference import verdict
from reports.verdict.plan import PlanState

# Every metric with its comparisons, the baseline that they are with, and the primary metric.


_CORRECTION = (
    "Holm over the declared comparisons (methods under test, primary metric, against the baseline), "
    "Benjamini-Hochberg over the exploratory ones; checkpoint-level p-values are not adjusted"
)


class Known(NamedTuple):
    """A metric that methods can be compared on."""

    benchmark: str
    metric: str
    benchmark_primary: bool
    higher_is_better: bool

    @property
    def name(self) -> str:
        return f"{self.benchmark}/{self.metric}"


def metrics_of(matrix: MatrixData) -> list[Known]:
    """Every metric that was scored, the benchmark's primary one first; descriptions, such as a length, are none."""
    found: dict[tuple[str, str], Known] = {}
    for benchmark in matrix.benchmarks:
        for scores in (table for table in matrix.tables if table.benchmark == benchmark):
            for name in (scores.primary_metric, *sorted(scores.metrics)):
                better = scores.metrics.get(name, {"higher_is_better": None}).get("higher_is_better", True)
                if better is not None:
                    known = Known(benchmark, name, name == scores.primary_metric, bool(better))
                    found.setdefault((benchmark, name), known)
    return list(found.values())


def _description(matrix: MatrixData, known: Known) -> str | None:
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
    family = [a for a in all_arms if name in (a.method, a.label)]
    return family or ([] if "baseline" in report else [a for a in all_arms if a.rule == name])


def pick_baseline(matrix: MatrixData, all_arms: Sequence[Arm], primary: str | None) -> tuple[Arm | None, str | None]:
    """The baseline's arm; of several settings the one with the best primary metric, the hardest to beat."""
    family = _baseline_family(matrix, all_arms)
    if not family:
        return None, f"no run of the baseline {(matrix.config.get('report') or {}).get('baseline') or 'fixed'!r}"
    if len(family) == 1 or primary is None:
        return family[0], None
    known = next(k for k in metrics_of(matrix) if k.name == primary)
    means = [arm_summary(arm, known.benchmark, known.metric).mean.value for arm in family]
    sign = 1 if known.higher_is_better else -1
    levels = [float("-inf") if mean is None else sign * mean for mean in means]
    note = f"best of {len(family)} settings on {primary}, the hardest to beat; comparisons with it pay for the choice"
    return family[levels.index(max(levels))], note


def pick_primary(matrix: MatrixData, known: Sequence[Known]) -> Primary:
    """The metric that the matrix file declares, else the first benchmark's primary one; null with a reason."""
    wanted = (matrix.config.get("report") or {}).get("primary")
    if wanted and wanted not in [k.name for k in known]:
        return Primary(value=None, reason=f"the declared metric {wanted!r} was not scored")
    value = wanted or next((k.name for k in known if k.benchmark_primary), None)
    return Primary(value=value, reason=None if value else "no benchmark was scored")


def baseline_label(matrix: MatrixData) -> str | None:
    """The label of the arm that a matrix's other arms are compared with; None where there is none."""
    primary = pick_primary(matrix, metrics_of(matrix))
    baseline, _ = pick_baseline(matrix, arms(matrix.runs), primary.value)
    return None if baseline is None else baseline.label


def compared_metrics(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    baseline: Arm | None,
    known: Sequence[Known],
    primary: str | None,
    plan: PlanState,
) -> tuple[list[Metric], TestCounts]:
    """Every metric with its comparisons, whose p-values are corrected: the first ones by Holm, the others by their own family.

    The first ones, of methods under test with the baseline on the primary metric, are declared where they are as planned.
    """
    reference = matrix.reference.scores if matrix.reference else {}
    pairs: list[tuple[Arm, Arm | None]] = [*contrasts(all_arms, baseline)]
    family = _baseline_family(matrix, all_arms)
    # First is a method under test, no control and no other setting of the baseline, against it on the primary metric.
    tested = {a.label: a.method for a in all_arms if baseline and a.method != baseline.method and not a.is_control}
    paired: list[tuple[Known, Paired, bool]] = []
    for k in known:
        lend = lender(arm_grids(all_arms, k.benchmark, k.metric))
        for first, second in (*pairs, *((arm, None) for arm in all_arms if k.benchmark in reference)):
            # The baseline's setting was picked on the primary metric: there its luck is in the difference.
            with_baseline = second is not None and second is baseline and k.name == primary
            others = [a for a in family if with_baseline and a is not second and a is not first]
            asked = reference.get(k.benchmark), k.benchmark, k.metric, lend, others, k.higher_is_better
            paired.append((k, method_comparison(first, second, *asked), with_baseline and first.label in tested))
    adjusted: dict[int, AdjustedP] = {}
    for own, method in ((True, "Holm"), (False, "Benjamini-Hochberg")):
        places = [i for i, (_, _, leading) in enumerate(paired) if leading is own]
        values = corrected([paired[i][1].crossed_test for i in places], method)
        adjusted |= zip(places, values, strict=True)
    rows: dict[str, list[Comparison]] = {k.name: [] for k in known}
    counts: Counter[str] = Counter()
    for place, (k, c, leading) in enumerate(paired):
        p, why = adjusted[place], None
        if leading and baseline:
            why = plan.why((tested[c.label], baseline.method), k.benchmark, first=True)
        family_of: Family = "declared" if leading and why is None else "exploratory"
        counts[family_of] += p.value is not None
        said = verdict(c, k.higher_is_better, p)
        rows[k.name].append(
            Comparison(**dict(c), family=family_of, exploratory_because=why, adjusted_p=p, verdict=said)
        )
    metrics = [
        Metric(
            **k._asdict(),
            description=_description(matrix, k),
            primary=k.name == primary,
            reference=policy_estimate(column(reference[k.benchmark], k.metric, None))
            if k.benchmark in reference
            else None,
            methods=[arm_summary(arm, k.benchmark, k.metric) for arm in all_arms],
            comparisons=rows[k.name],
        )
        for k in known
    ]
    return metrics, TestCounts(
        declared=counts["declared"],
        exploratory=counts["exploratory"],
        checkpoint_level=sum(pair.test is not None for _, c, _ in paired for pair in c.checkpoints),
        correction=_CORRECTION,
    )


# Every method against the reference on the primary metric: whether training helped at all.


def over_reference(primary: Metric | None) -> list[OverReference]:
    """One row per arm from the primary metric; empty where the reference was not scored.

    The reference is one policy without a seed: every seed is paired with it by prompt, so its own noise is part of the spread
    over prompts.
    """
    if primary is None:
        return []
    methods = {arm.label: arm.method for arm in primary.methods}
    return [
        _over(methods[c.label], c.label, primary.name, c, len(c.seeds))
        for c in primary.comparisons
        if c.against == REFERENCE_ID
    ]


def run_over_reference(arm: Arm, reference: Scores, metric: str) -> list[OverReference]:
    """The row of a single run, whose interval is over prompts; empty where it shares no prompt with the reference."""
    pairs, _ = column_pairs(arm, None, reference, reference.benchmark, metric)
    ids, grid = paired_grid(pairs)
    name = f"{reference.benchmark}/{metric}"
    return [_over(arm.method, arm.label, name, tested(grid, len(ids)), len(pairs))] if ids else []


def _over(method: str, label: str, metric: str, found: Inferred, seeds: int) -> OverReference:
    difference = found.difference
    return OverReference(
        method=method,
        label=label,
        metric=metric,
        difference=difference.value,
        standard_error=difference.stderr,
        ci_low=difference.low,
        ci_high=difference.high,
        n_seeds=seeds,
        n_prompts=found.n,
        reason=difference.reason,
        covers=None if difference.low is None else "seeds and prompts" if seeds > 1 else "prompts of one seed",
    )
