"""Tables of the report that have no figure, as rows for tables/*.csv."""

from collections.abc import Sequence

from reports.compare.on_record import NOISE_COLUMNS
from reports.schema import Inference, InferenceRow, PlantedControl, Summary
from reports.writing import Row

CORRELATION_COLUMNS = (
    "run_id",
    "level",
    "against",
    "beta_free",
    "n",
    "pearson",
    "pearson_detrended",
    "spearman",
    "spearman_low",
    "spearman_high",
    "spearman_detrended",
    "kendall",
    "xi",
    "note",
)
QUANTILE_COLUMNS = (
    "run_id",
    "quantile",
    "n",
    "log_prompt_perplexity_low",
    "log_prompt_perplexity_high",
    "dynamic_beta",
    "loss",
    "loss_at_beta0",
    "accuracy",
)
CLAIM_COLUMNS = (
    "claim",
    "verdict",
    "role",
    "label",
    "against",
    "difference",
    "low",
    "high",
    "adjusted_p",
    "declared",
    "method",
    "n",
    "seeds",
    "sentence",
)
SENSITIVITY_COLUMNS = (
    "role",
    "label",
    "against",
    "metric",
    "at",
    "difference",
    "standard_error",
    "ci_low",
    "ci_high",
    "detected",
    "detectable",
    "seeds",
    "prompts",
)

#: `level` is method (over seeds) or checkpoint (one seed's pair of checkpoints, over prompts).
COMPARISON_COLUMNS = (
    "benchmark",
    "metric",
    "label",
    "against",
    "level",
    "seed",
    "difference",
    "low",
    "high",
    "n",
    "seeds",
    "method",
    "verdict",
)
BENCHMARK_COLUMNS = ("benchmark", "metric", "label", "mean", "low", "high", "seeds", "n", "interval")
#: The table of the report: one inference a row.
RESULT_COLUMNS = (
    "method", "difference", "low", "high", "adjusted_p", "verdict", "score", "kl", "length", "seeds", "prompts",
)  # fmt: skip


def other_tables(summary: Summary) -> dict[str, tuple[Sequence[str], list[Row]]]:
    """Columns and rows of the tables that have no figure, by name."""
    return {
        "beta_correlation": (CORRELATION_COLUMNS, _correlations(summary)),
        "perplexity_quantiles": (
            QUANTILE_COLUMNS,
            [{"run_id": run.run_id, **dict(row)} for run in summary.beta.runs for row in run.perplexity_quantiles],
        ),
        "noise_floor": (NOISE_COLUMNS, [dict(row) for row in summary.noise_floor.rows]),
        "claims": (CLAIM_COLUMNS, _claims(summary)),
        "paired_differences": (COMPARISON_COLUMNS, _comparisons(summary)),
        "benchmarks": (BENCHMARK_COLUMNS, _scores(summary)),
        "results": (RESULT_COLUMNS, result_rows(summary.inference)),
        "sensitivity": (SENSITIVITY_COLUMNS, [dict(one) for one in planted(summary)]),
        "checklist": (("name", "state", "evidence"), [dict(check) for check in summary.checklist]),
    }


def planted(summary: Summary) -> list[PlantedControl]:
    """The controls of `sensitivity`, the deciding one first; none where none were declared."""
    found = summary.sensitivity
    return [one for one in (found.positive, found.weak, found.negative) if one] if found else []


def _claims(summary: Summary) -> list[Row]:
    """One row per claim and comparison that it needs; a claim without a comparison gives one row."""
    rows: list[Row] = []
    for claim in summary.claims.judged:
        head = {"claim": claim.name} | {key: getattr(claim, key) for key in ("verdict", "declared", "sentence")}
        rows += [
            {
                **head,
                **{key: getattr(c, key) for key in ("role", "label", "against")},
                "difference": c.difference.value,
                **{key: getattr(c.difference, key) for key in ("low", "high", "method", "n", "seeds")},
                "adjusted_p": claim.adjusted_p.better,
            }
            for c in claim.comparisons
        ] or [head]
    return rows


def _correlations(summary: Summary) -> list[Row]:
    """One row per run, level (example, step) and quantity; a run without a correlation gives its reason as note."""
    rows: list[Row] = []
    for run in summary.beta.runs:
        levels = [("example", row) for row in run.examples or ()] + [("step", row) for row in run.steps or ()]
        rows += [
            {
                "run_id": run.run_id,
                "level": level,
                "against": row.against,
                "beta_free": not row.contains_beta,
                "n": row.n,
                "spearman_low": row.raw.spearman.low,
                "spearman_high": row.raw.spearman.high,
                "note": row.raw.spearman.reason,
                **{k: getattr(row.raw, k).value for k in ("pearson", "spearman", "kendall", "xi")},
                **{f"{k}_detrended": getattr(row.detrended, k).value for k in ("pearson", "spearman")},
            }
            for level, row in levels
        ] or [{"run_id": run.run_id, "note": run.reason}]
    return rows


def result_rows(found: Inference) -> list[Row]:
    """One row a method, after the reference and the baseline, which are compared with nothing."""
    rows: list[Row] = [
        {"method": one.label, "score": one.score, "kl": one.kl, "length": one.length} for one in found.levels
    ]
    return rows + [
        {
            "method": found.named(r),
            "difference": r.difference.value,
            "low": r.difference.low,
            "high": r.difference.high,
            "adjusted_p": r.adjusted_p.value,
            "verdict": said(r),
            "score": r.score,
            "kl": r.kl,
            "length": r.length,
            "seeds": len(r.seed_differences),
            "prompts": r.difference.n,
        }
        for r in found.rows
    ]


def said(row: InferenceRow) -> str:
    """The verdict with the number that m stands for."""
    return row.verdict.replace("more than m", f"more than {row.min_effect:g}")


def _comparisons(summary: Summary) -> list[Row]:
    """One row per comparison with the baseline: the method level (over seeds) and each seed's checkpoint level."""
    return [
        {
            "benchmark": metric.benchmark,
            "metric": metric.metric,
            "label": c.label,
            "against": c.against,
            **dict(zip(("level", "seed", "n", "seeds", "verdict"), head, strict=True)),
            "difference": d.value,
            **{key: getattr(d, key) for key in ("low", "high", "method")},
        }
        for metric in summary.metrics
        for c in metric.comparisons
        if c.against == summary.baseline.value
        for d, *head in (
            (c.difference, "method", None, c.n, len(c.seeds), c.verdict),
            *((p.difference, "checkpoint", p.seed, p.n, 1, None) for p in c.checkpoints),
        )
    ]


def _scores(summary: Summary) -> list[Row]:
    """Mean per method and metric over seeds with its interval; the reference policy's own row first."""
    return [
        {
            "benchmark": metric.benchmark,
            "metric": metric.metric,
            "label": label,
            "mean": e.value,
            **{key: getattr(e, key) for key in ("low", "high", "n")},
            "seeds": None if e is metric.reference else e.seeds,
            "interval": e.method,
        }
        for metric in summary.metrics
        for label, e in (("reference", metric.reference), *((method.label, method.mean) for method in metric.methods))
        if e
    ]
