"""`summary["correlations"]`: the few numbers of `summary["beta"]` that the report's table shows, one entry per run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.beta.null import WARNING

_ROWS = ("loss", "delta", "loss_at_beta0", "log_prompt_perplexity", "rewards/accuracies", "grad_norm")


def _estimate(cell: Mapping[str, Any], method: str, n: int, effective: float | None) -> dict[str, Any]:
    return {
        "value": cell["value"],
        "low": cell["low"],
        "high": cell["high"],
        "stderr": None,
        "confidence": 0.95,
        "method": method,
        "n": n,
        "seeds": None,
        "note": cell["reason"] or (None if effective is None else f"effective n {effective:.0f} of {n}"),
        "reason": cell["reason"],
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    raw, flat, n = row["raw"], row["detrended"], row["n"]
    return {
        "against": row["against"],
        "beta_free": not row["contains_beta"],
        "n": n,
        **{name: _estimate(raw[name], name, n, raw["n_eff"]) for name in ("pearson", "spearman", "kendall", "xi")},
        **{
            f"{name}_detrended": _estimate(flat[name], f"{name} of residuals", n, flat["n_eff"])
            for name in ("pearson", "spearman")
        },
    }


def correlations(beta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The view of `summary["beta"]` that the templates and tables read; `value` is Spearman of beta and loss over pairs."""
    out = []
    for run in beta["runs"]:
        tables = {
            level: None if run[level] is None else [_row(r) for r in run[level] if r["against"] in _ROWS]
            for level in ("examples", "steps")
        }
        loss = next((r["spearman"] for r in tables["examples"] or [] if r["against"] == "loss"), None)
        value = loss["value"] if loss else None
        reason = run["reason"] or (loss["reason"] if loss else "no loss was recorded")
        if run["examples"] is None and run["steps"] is not None:
            reason = f"{reason}; see the logged steps"
        keys = ("n", "dynamic_beta", "loss", "loss_at_beta0", "accuracy", "quantile")
        ends = ("log_prompt_perplexity_low", "log_prompt_perplexity_high")
        out.append(
            {
                "run_id": run["run_id"],
                "value": value,
                "reason": reason if value is None else None,
                "warning": WARNING,
                **tables,
                "null": run["null"],
                "perplexity_quantiles": [{k: q[k] for k in (*keys, *ends)} for q in run["perplexity_quantiles"]],
                "fallback_rows": None if run["rows"] is None else run["rows"]["fallback"],
                "collapse": run["collapse"],
            }
        )
    return out
