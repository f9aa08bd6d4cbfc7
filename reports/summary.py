"""Assemble summary.json: what ran, what it scored, what differs, what that is worth. The records are in reports/schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.beta import beta_summary
from reports.beta.correlation import correlations
from reports.beta.drift import collapse_of
from reports.beta.run import Analysed
from reports.compare import aggregate, frontiers, strata, tuning
from reports.compare.comparison import MatchedKL, arm_summary, column, method_comparison, policy_estimate
from reports.compare.contamination import contamination_summary
from reports.compare.engine import engine_summary
from reports.compare.judges import judges_summary
from reports.compare.noise_floor import noise_floor
from reports.compare.over_reference import over_reference, sentence
from reports.page.provenance import provenance
from reports.runs.arms import Arm, arm_of, arms
from reports.runs.checkpoints import failed_checkpoints
from reports.runs.records import MatrixData, ReportError, RunData, finite
from reports.schema import Summary
from reports.statistics.multiplicity import benjamini_hochberg, holm
from reports.verdict.checklist import checklist, is_control
from reports.verdict.claims import ClaimError, parse_claims, read_claims, verify
from reports.verdict.judged import judge_matrix
from reports.verdict.methods import control_note, headline, verdict
from reports.verdict.sentences import as_dict
from reports.writing import jsonable

# The parts of summary.json that compare methods: tie groups, tuning, frontiers, strata, and the checklist that needs them.


NO_TIES: dict[str, Any] = {
    "groups": [],
    "method": None,
    "pairs": 0,
    "tested": 0,
    "reason": "one run has nothing to tie with",
}


def frozen_at_matched_kl(matrix: MatrixData) -> MatchedKL:
    """What judges the claims declared `at: matched_kl`."""
    return frontiers.matched_kl(matrix)


def extend(summary: dict[str, Any], matrix: MatrixData, all_arms: Sequence[Arm], baseline: Arm | None) -> None:
    """Put `tie_groups` into every metric, and `tuning`, `frontiers`, `strata` and `checklist` into the summary."""
    metrics = summary["metrics"]
    if summary["kind"] == "run":
        for entry in metrics:
            entry["tie_groups"] = {**NO_TIES}
        summary |= {"tuning": {**tuning.NOTHING}, "frontiers": {**frontiers.NOTHING}, "strata": {**strata.NOTHING}}
        summary["aggregate"] = {**aggregate.NOTHING}
        summary["checklist"] = checklist(matrix, all_arms, baseline, summary)
        return
    for entry in metrics:
        entry["tie_groups"] = tuning.tie_groups(
            all_arms, entry["benchmark"], entry["metric"], entry["higher_is_better"]
        )
    controls = [a for a in all_arms if is_control(a)]
    labels = [a.label for a in controls]
    method, label = (None, None) if baseline is None else (baseline.method, baseline.label)
    methods = list(dict.fromkeys(a.method for a in controls))
    summary["tuning"] = tuning.tuning_summary(matrix, all_arms, metrics, method, methods)
    primary = summary["primary"]["value"]
    summary["frontiers"] = frontiers.frontier_summary(matrix, all_arms, primary, baseline, labels)
    summary["aggregate"] = aggregate.aggregate_summary(metrics, label)
    summary["strata"] = strata.strata_summary(matrix, all_arms, metrics, label, labels)
    summary["checklist"] = checklist(matrix, all_arms, baseline, summary)


SCHEMA_VERSION = 1
_NO_CLAIMS: dict[str, Any] = {
    "frozen": None,
    "sha256": None,
    "reason": "one run can settle no claim",
    "changes": [],
    "judged": [],
}
FINAL_KEYS = ("loss", "loss_at_beta0", "delta", "dynamic_beta", "log_prompt_perplexity", "rewards/accuracies")


def _run_entry(run: RunData, label: str) -> dict[str, Any]:
    steps = run.steps
    status = run.status or {}
    last = {k: next((v for r in reversed(steps) if (v := finite(r.get(k))) is not None), None) for k in FINAL_KEYS}
    return {
        "run_id": run.run_id,
        "method": run.method,
        "label": label,
        "rule": run.rule,
        "seed": run.seed,
        "settings": run.settings,
        "state": run.state,
        "stage": status.get("stage"),
        "step": status.get("step"),
        "total_steps": status.get("total_steps"),
        "error": run.error,
        "failed_checkpoints": failed_checkpoints(run),
        "logged_steps": len(steps),
        "diverged": any(r.get("loss") is not None and finite(r.get("loss")) is None for r in steps),
        "final": last,
        "collapse": collapse_of(run),
        "benchmarks": sorted(run.scores),
    }


def _metrics_of(matrix: MatrixData) -> list[tuple[str, str, bool, bool]]:
    """(benchmark, metric, is the benchmark's primary, higher is better), primary metrics first in each benchmark."""
    policies = [*([matrix.reference] if matrix.reference else []), *matrix.runs]
    found: dict[tuple[str, str], tuple[bool, bool]] = {}
    for benchmark in matrix.benchmarks:
        for run in policies:
            scores = run.scores.get(benchmark)
            names = [] if scores is None else [scores.primary_metric, *sorted(scores.metrics)]
            for name in names:
                if scores is not None and name in scores.metrics:
                    better = scores.metrics[name].get("higher_is_better", True)
                    if better is None:  # a description, such as the answers' length, that no method can win
                        continue
                    found.setdefault((benchmark, name), (name == scores.primary_metric, bool(better)))
    return [(b, m, primary, better) for (b, m), (primary, better) in found.items()]


def _pick_baseline(matrix: MatrixData, all_arms: Sequence[Arm], primary: str | None) -> tuple[Arm | None, str | None]:
    """The baseline's arm; of several settings the one with the best primary metric, the hardest to beat."""
    report = matrix.config.get("report") or {}
    name = report.get("baseline") or "fixed"
    family = [a for a in all_arms if a.method == name or a.label == name]
    if not family:
        family = [a for a in all_arms if a.rule == name] if "baseline" not in report else []
    if not family:
        return None, f"no run of the baseline {name!r}"
    if len(family) == 1 or primary is None:
        return family[0], None
    benchmark, metric = primary.split("/", 1)
    sign = next((1 if better else -1 for b, m, _, better in _metrics_of(matrix) if (b, m) == (benchmark, metric)), 1)

    def level(arm: Arm) -> float:
        mean = arm_summary(arm, benchmark, metric)["mean"]["value"]
        return float("-inf") if mean is None else sign * mean

    best = max(family, key=level)
    return (
        best,
        f"best of {len(family)} settings on {primary}, chosen on the same prompts: the hardest to beat",
    )


def _pick_primary(matrix: MatrixData, known: Sequence[tuple[str, str, bool, bool]]) -> tuple[str | None, str | None]:
    wanted = (matrix.config.get("report") or {}).get("primary")
    names = [f"{b}/{m}" for b, m, _, _ in known]
    if wanted:
        return (wanted, None) if wanted in names else (None, f"the declared metric {wanted!r} was not scored")
    first = next((f"{b}/{m}" for b, m, primary, _ in known if primary), None)
    return first, None if first else "no benchmark was scored"


def baseline_label(matrix: MatrixData) -> str | None:
    """The label of the arm that a matrix's other arms are compared with; None where there is none."""
    primary, _ = _pick_primary(matrix, _metrics_of(matrix))
    baseline, _ = _pick_baseline(matrix, arms(matrix.runs), primary)
    return None if baseline is None else baseline.label


def _is_claim(arm: Arm, baseline: Arm | None) -> bool:
    """Whether the arm is a method under test: not the baseline at another setting, and no control."""
    return baseline is not None and arm.method != baseline.method and not is_control(arm)


def _metric_entry(
    matrix: MatrixData, all_arms: Sequence[Arm], baseline: Arm | None, benchmark: str, metric: str
) -> dict[str, Any]:
    reference = matrix.reference.scores.get(benchmark) if matrix.reference else None
    entry: dict[str, Any] = {
        "reference": policy_estimate(column(reference, metric, None)).as_dict() if reference else None,
        "methods": [arm_summary(a, benchmark, metric) for a in all_arms],
        "comparisons": [],
    }
    for arm in all_arms:
        if baseline is not None and arm is not baseline:
            entry["comparisons"].append(method_comparison(arm, baseline, None, benchmark, metric))
    controls = [a for a in all_arms if is_control(a)]
    for arm in all_arms if baseline is not None else []:
        if _is_claim(arm, baseline):
            entry["comparisons"] += [method_comparison(arm, c, None, benchmark, metric) for c in controls]
    if reference is not None:
        entry["comparisons"] += [method_comparison(a, None, reference, benchmark, metric) for a in all_arms]
    return entry


def _adjust(metrics: Sequence[dict[str, Any]], all_arms: Sequence[Arm], baseline: Arm | None) -> dict[str, Any]:
    """Mark every method comparison declared or exploratory and adjust its p: Holm, or Benjamini-Hochberg."""
    families: dict[str, list[dict[str, Any]]] = {"declared": [], "exploratory": []}
    checkpoint_tests = 0
    claims = {a.label for a in all_arms if _is_claim(a, baseline)}
    for entry in metrics:
        for comparison in entry["comparisons"]:
            against = baseline is not None and comparison["against"] == baseline.label
            declared = entry["primary"] and against and comparison["label"] in claims
            comparison["family"] = "declared" if declared else "exploratory"
            families[comparison["family"]].append(comparison)
            checkpoint_tests += sum(c["test"] is not None for c in comparison["checkpoints"])
    counts = {}
    for family, adjust, name in (
        ("declared", holm, "Holm"),
        ("exploratory", benjamini_hochberg, "Benjamini-Hochberg"),
    ):
        members = families[family]
        adjusted = adjust([c["crossed_test"]["p_value"] for c in members])
        counts[family] = sum(p is not None for p in adjusted)
        for comparison, p in zip(members, adjusted, strict=True):
            comparison["adjusted_p"] = {
                "value": p,
                "method": name,
                "family_size": counts[family],
                "reason": None if p is not None else comparison["crossed_test"]["reason"],
            }
    return {
        "declared": counts["declared"],
        "exploratory": counts["exploratory"],
        "checkpoint_level": checkpoint_tests,
        "correction": "Holm over the declared comparisons (methods under test, primary metric, against the baseline), "
        "Benjamini-Hochberg over the exploratory ones; checkpoint-level p-values are not adjusted",
    }


def claims_summary(matrix: MatrixData) -> dict[str, Any]:
    """The declared claims judged, when they were frozen, and what was changed since."""
    try:
        current = parse_claims(matrix.config.get("claims") or [])
        frozen = read_claims(matrix.output_dir)
        changes = verify(frozen, current) if frozen else []
        judged = judge_matrix(matrix, current, frozen, frozen_at_matched_kl(matrix))
    except ClaimError as error:
        raise ReportError(str(error)) from error
    return {
        "frozen": frozen["frozen"] if frozen else None,
        "sha256": frozen["sha256"] if frozen else None,
        "reason": None if frozen else "no claims.json: no claims were frozen before training",
        "changes": changes,
        "judged": [as_dict(one) for one in judged],
    }


def build_summary(matrix: MatrixData, kind: str = "matrix", analysed: Mapping[str, Analysed] | None = None) -> Summary:
    """Everything the report says (no NaN; a null has a `reason` beside it).

    `kind` is "matrix" or "run"; one schema serves both, a single run just has nothing to compare. `analysed`
    holds what `reports.beta` found in runs before, by run id; the others are analysed here.
    """
    all_arms = arms(matrix.runs)
    labels = arm_of(all_arms)
    known = _metrics_of(matrix)
    primary, primary_reason = _pick_primary(matrix, known)
    baseline, baseline_note = _pick_baseline(matrix, all_arms, primary)
    if kind == "run":
        baseline, baseline_note = None, "one run has nothing to be compared with"
    metrics: list[dict[str, Any]] = []
    for benchmark, metric, own_primary, better in sorted(known, key=lambda k: f"{k[0]}/{k[1]}" != primary):
        head: dict[str, Any] = {
            "benchmark": benchmark,
            "metric": metric,
            "higher_is_better": better,
            "benchmark_primary": own_primary,
            "primary": f"{benchmark}/{metric}" == primary,
        }
        metrics.append(head | _metric_entry(matrix, all_arms, baseline, benchmark, metric))
    tests = _adjust(metrics, all_arms, baseline)
    declared: list[dict[str, Any]] = []
    controls = [a.label for a in all_arms if is_control(a)]
    for entry in metrics:
        absent = {m["label"]: len(m["absent"]) for m in entry["methods"]}
        for comparison in entry["comparisons"]:
            name = f"{entry['benchmark']}/{entry['metric']}"
            comparison["verdict"] = verdict(comparison, name, entry["higher_is_better"], absent[comparison["label"]])
        for comparison in entry["comparisons"]:
            if comparison["family"] == "declared":
                mine = [c for c in entry["comparisons"] if c["label"] == comparison["label"]]
                tested = [c for c in mine if c["against"] in controls]
                comparison["verdict"]["sentence"] += control_note(comparison["verdict"]["code"], tested)
                declared.append({"label": comparison["label"], **comparison["verdict"]})
    states = [r.state for r in matrix.runs]
    first = next((m for m in metrics if m["primary"]), None)
    over = over_reference(first)
    unfinished = sum(s != "done" for s in states)
    summary = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "name": matrix.config.get("name"),
        "baseline": {
            "value": baseline.label if baseline else None,
            "note": baseline_note if baseline else None,
            "reason": None if baseline else baseline_note,
        },
        "primary": {"value": primary, "reason": primary_reason},
        "counts": {
            "planned": len(states),
            "unfinished": unfinished,
            **{s: states.count(s) for s in ("done", "failed", "running", "pending", "missing")},
        },
        "verdict": {
            "headline": headline(declared, unfinished, len(states))
            if kind == "matrix"
            else "One run: its own numbers, compared with nothing.",
            "over_reference": sentence(over, first) if kind == "matrix" else None,
            "sentences": declared,
        },
        "over_reference": over,
        "claims": claims_summary(matrix) if kind == "matrix" else {**_NO_CLAIMS},
        "tests": tests,
        "checklist": [],
        "metrics": metrics,
        "runs": [_run_entry(r, labels[r.run_id]) for r in matrix.runs],
        "beta": (beta := beta_summary(matrix, all_arms, analysed)),
        "correlations": correlations(beta),
        "engine": engine_summary(matrix),
        "contamination": contamination_summary(matrix),
        "judges": judges_summary(matrix) if kind == "matrix" else [],
        "noise_floor": noise_floor(matrix, metrics),
        "provenance": provenance(matrix),
    }
    extend(summary, matrix, all_arms, baseline)
    return Summary.model_validate(jsonable(summary))
