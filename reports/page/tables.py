"""The numbers behind every figure of the comparison, as rows for tables/*.csv."""

from __future__ import annotations

from collections.abc import Sequence

from reports.schema import Summary
from reports.schema.verdict import ClaimComparison
from reports.writing import Row

FOREST_COLUMNS = (
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


def forest_table(summary: Summary) -> list[Row]:
    """One row per comparison with the baseline: the method level (over seeds) and each seed's checkpoint level."""
    rows = []
    for metric in summary.metrics:
        head: Row = {"benchmark": metric.benchmark, "metric": metric.metric}
        for c in metric.comparisons:
            if c.against != summary.baseline.value:
                continue
            d = c.difference
            rows.append(
                head
                | {
                    "label": c.label,
                    "against": c.against,
                    "level": "method",
                    "seed": None,
                    "difference": d.value,
                    "low": d.low,
                    "high": d.high,
                    "n": c.n,
                    "seeds": len(c.seeds),
                    "method": d.method,
                    "verdict": c.verdict.code,
                }
            )
            for point in c.checkpoints:
                e = point.difference
                rows.append(
                    head
                    | {
                        "label": c.label,
                        "against": c.against,
                        "level": "checkpoint",
                        "seed": point.seed,
                        "difference": e.value,
                        "low": e.low,
                        "high": e.high,
                        "n": point.n,
                        "seeds": 1,
                        "method": e.method,
                        "verdict": None,
                    }
                )
    return rows


def claim_table(summary: Summary) -> list[Row]:
    """One row per claim and comparison that it needs; a claim without a comparison gives one row."""
    rows: list[Row] = []
    for claim in summary.claims.judged:
        head = {"claim": claim.name, "verdict": claim.verdict, "declared": claim.declared}
        compared: Sequence[ClaimComparison | None] = claim.comparisons or [None]
        for c in compared:
            row: Row = {**head, "sentence": claim.sentence}
            if c is not None:
                d = c.difference
                row |= {key: getattr(c, key) for key in ("role", "label", "against")}
                row |= {
                    "difference": d.value,
                    **{key: getattr(d, key) for key in ("low", "high", "method", "n", "seeds")},
                }
                row["adjusted_p"] = claim.adjusted_p.supported
            rows.append(row)
    return rows


def benchmark_table(summary: Summary) -> list[Row]:
    """Mean per method and metric over seeds with its interval; the reference policy's own row first."""
    rows = []
    for metric in summary.metrics:
        head: Row = {"benchmark": metric.benchmark, "metric": metric.metric}
        reference = metric.reference
        if reference:
            rows.append(
                head
                | {
                    "label": "reference",
                    "mean": reference.value,
                    "low": reference.low,
                    "high": reference.high,
                    "seeds": None,
                    "n": reference.n,
                    "interval": reference.method,
                }
            )
        for method in metric.methods:
            e = method.mean
            rows.append(
                head
                | {
                    "label": method.label,
                    "mean": e.value,
                    "low": e.low,
                    "high": e.high,
                    "seeds": e.seeds,
                    "n": e.n,
                    "interval": e.method,
                }
            )
    return rows


def correlation_table(summary: Summary) -> list[Row]:
    """One row per run, level (example, step) and quantity; a run without a correlation gives its reason as note."""
    out: list[Row] = []
    for run in summary.correlations:
        for level in ("examples", "steps"):
            for row in getattr(run, level) or []:
                out.append(
                    {
                        "run_id": run.run_id,
                        "level": level.rstrip("s"),
                        "against": row.against,
                        "beta_free": row.beta_free,
                        "n": row.n,
                        "spearman_low": row.spearman.low,
                        "spearman_high": row.spearman.high,
                        "note": row.spearman.note,
                        **{
                            k: getattr(row, k).value
                            for k in (
                                "pearson",
                                "pearson_detrended",
                                "spearman",
                                "spearman_detrended",
                                "kendall",
                                "xi",
                            )
                        },
                    }
                )
        if not run.examples and not run.steps:
            out.append({"run_id": run.run_id, "note": run.reason})
    return out


def quantile_table(summary: Summary) -> list[Row]:
    """One row per run and quantile of log prompt perplexity."""
    return [{"run_id": run.run_id, **dict(row)} for run in summary.correlations for row in run.perplexity_quantiles]
