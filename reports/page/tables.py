"""Tables of the report that have no figure, as rows for tables/*.csv."""

from __future__ import annotations

from collections.abc import Sequence

from reports.compare import noise_floor
from reports.schema import Summary
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


def other_tables(summary: Summary) -> dict[str, tuple[Sequence[str], list[Row]]]:
    """Columns and rows of the tables that have no figure, by name."""
    noise = [dict(row) for row in summary.noise_floor.rows]
    return {
        "beta_correlation": (CORRELATION_COLUMNS, _correlations(summary)),
        "perplexity_quantiles": (QUANTILE_COLUMNS, _quantiles(summary)),
        "noise_floor": (noise_floor.COLUMNS, noise),
        "claims": (CLAIM_COLUMNS, _claims(summary)),
        "sensitivity": (SENSITIVITY_COLUMNS, _sensitivity(summary)),
        "checklist": (("name", "state", "evidence"), [dict(check) for check in summary.checklist]),
    }


def _sensitivity(summary: Summary) -> list[Row]:
    """The controls of `sensitivity`, the deciding one first; none where none were declared."""
    found = summary.sensitivity
    every = [] if found is None else [found.positive, *([found.weak] if found.weak else []), found.negative]
    return [{key: getattr(one, key) for key in SENSITIVITY_COLUMNS} for one in every]


def _claims(summary: Summary) -> list[Row]:
    """One row per claim and comparison that it needs; a claim without a comparison gives one row."""
    rows: list[Row] = []
    for claim in summary.claims.judged:
        head: Row = {
            "claim": claim.name,
            "verdict": claim.verdict,
            "declared": claim.declared,
            "sentence": claim.sentence,
        }
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
    coefficients = ("pearson", "pearson_detrended", "spearman", "spearman_detrended", "kendall", "xi")
    rows: list[Row] = []
    for run in summary.correlations:
        levels = [("example", row) for row in run.examples or ()] + [("step", row) for row in run.steps or ()]
        rows += [
            {
                "run_id": run.run_id,
                "level": level,
                "against": row.against,
                "beta_free": row.beta_free,
                "n": row.n,
                "spearman_low": row.spearman.low,
                "spearman_high": row.spearman.high,
                "note": row.spearman.note,
                **{name: getattr(row, name).value for name in coefficients},
            }
            for level, row in levels
        ] or [{"run_id": run.run_id, "note": run.reason}]
    return rows


def _quantiles(summary: Summary) -> list[Row]:
    """One row per run and quantile of log prompt perplexity."""
    return [{"run_id": run.run_id, **dict(row)} for run in summary.correlations for row in run.perplexity_quantiles]
