"""`summary["correlations"]`: the few numbers of `summary["beta"]` that the report's table shows, one entry per run."""

from __future__ import annotations

from collections.abc import Sequence

from reports.beta.null import WARNING
from reports.schema.base import Estimate
from reports.schema.beta import Association, Beta, Cell
from reports.schema.correlations import Correlations, Quantile, RunCorrelations

_ROWS = ("loss", "delta", "loss_at_beta0", "log_prompt_perplexity", "rewards/accuracies", "grad_norm")


def _estimate(cell: Cell, method: str, n: int, effective: float | None) -> Estimate:
    note = cell.reason or (None if effective is None else f"effective n {effective:.0f} of {n}")
    return Estimate(
        value=cell.value,
        low=cell.low,
        high=cell.high,
        stderr=None,
        confidence=0.95,
        method=method,
        n=n,
        seeds=None,
        note=note,
        reason=cell.reason,
    )


def _row(row: Association) -> Correlations:
    raw, flat = row.raw, row.detrended
    plain = {k: _estimate(getattr(raw, k), k, row.n, raw.n_eff) for k in ("pearson", "spearman", "kendall", "xi")}
    detrended = {
        f"{k}_detrended": _estimate(getattr(flat, k), f"{k} of residuals", row.n, flat.n_eff)
        for k in ("pearson", "spearman")
    }
    return Correlations(against=row.against, beta_free=not row.contains_beta, n=row.n, **plain, **detrended)


def _table(rows: Sequence[Association] | None) -> list[Correlations] | None:
    return None if rows is None else [_row(row) for row in rows if row.against in _ROWS]


def correlations(beta: Beta) -> list[RunCorrelations]:
    """The view of `summary["beta"]` that the templates and tables read; `value` is Spearman of beta and loss over pairs."""
    out = []
    for run in beta.runs:
        examples = _table(run.examples)
        loss = next((row.spearman for row in examples or () if row.against == "loss"), None)
        reason = run.reason or (loss.reason if loss else "no loss was recorded")
        if run.examples is None and run.steps is not None:
            reason = f"{reason}; see the logged steps"
        value = loss.value if loss else None
        out.append(
            RunCorrelations(
                run_id=run.run_id,
                value=value,
                reason=reason if value is None else None,
                warning=WARNING,
                examples=examples,
                steps=_table(run.steps),
                null=run.null,
                perplexity_quantiles=[Quantile(**q.model_dump(exclude={"delta"})) for q in run.perplexity_quantiles],
                fallback_rows=None if run.rows is None else run.rows.fallback,
                collapse=run.collapse,
            )
        )
    return out
