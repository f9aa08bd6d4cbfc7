"""Binned beta for the figures: its quantiles over steps, and its mean in bins of another quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports.beta.across import mean_cell
from reports.beta.cells import Floats
from reports.runs.records import finite

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STEP_BINS = 30
BINS = 12


def fan(parts: Sequence[tuple[Floats, Floats]], bins: int = STEP_BINS) -> list[dict[str, Any]]:
    """Quantiles of beta over the rows of all runs in each stretch of steps; parts are (step, beta) of each run, shape (n,)."""
    if not parts:
        return []
    step, beta = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    names = np.unique(step)
    edges = names if names.size <= bins else np.quantile(names, np.linspace(0, 1, bins + 1)[:-1])
    label = np.searchsorted(edges, step, side="right") - 1
    rows = []
    for k in range(edges.size):
        inside = label == k
        if inside.any():
            values = np.quantile(beta[inside], QUANTILES)
            named = {f"q{round(100 * q):02d}": float(v) for q, v in zip(QUANTILES, values, strict=True)}
            rows.append({"step": float(step[inside].mean()), "n": int(inside.sum()), **named})
    return rows


def binned(parts: Sequence[tuple[Floats, Floats]], bins: int = BINS) -> list[dict[str, Any]]:
    """Mean beta in bins of x that hold equally many rows; parts are (x, beta) of each run, shape (n,).

    `mean` is the mean of the runs' means, with a t interval over runs; `q10` and `q90` are of the rows. Rows that are
    not finite are left out; fewer bins come back when x repeats or rows are few.
    """
    kept = [(x[ok], b[ok]) for x, b in parts if (ok := np.isfinite(x) & np.isfinite(b)).any()]
    if not kept:
        return []
    everything = np.concatenate([x for x, _ in kept])
    count = int(np.clip(everything.size // 10, 1, bins))
    edges = np.unique(np.quantile(everything, np.linspace(0, 1, count + 1)))
    rows = []
    labels = [np.clip(np.searchsorted(edges, x, side="left") - 1, 0, max(edges.size - 2, 0)) for x, _ in kept]
    for k in range(max(edges.size - 1, 1)):
        inside = [(x[at == k], b[at == k]) for (x, b), at in zip(kept, labels, strict=True) if (at == k).any()]
        if not inside:
            continue
        x, beta = (np.concatenate([p[i] for p in inside]) for i in (0, 1))
        mean = mean_cell([float(b.mean()) for _, b in inside])
        low, high = np.quantile(beta, [0.1, 0.9])
        rows.append(
            {
                "x": float(x.mean()),
                "n": int(x.size),
                "runs": len(inside),
                "mean": mean["value"],
                "low": mean["low"],
                "high": mean["high"],
                "reason": mean["reason"],
                "q10": float(low),
                "q90": float(high),
            }
        )
    return rows


# What beta, loss and margin are in each fifth of the prompt perplexities.


def perplexity_quantiles(columns: Mapping[str, Floats], quantiles: int = 5) -> list[dict[str, Any]]:
    """Per quantile of log prompt perplexity: rows, mean beta, losses, delta, and the share of pairs with delta > 0.

    `columns` maps names to arrays of shape (n,); a column that is absent gives nulls. Rows without a perplexity (one-token
    prompts) are left out. Fewer bins come back when values repeat, none without perplexities.
    """
    log_ppl = columns.get("log_prompt_perplexity")
    if log_ppl is None or not np.isfinite(log_ppl).any():
        return []
    known = np.isfinite(log_ppl)
    edges = np.unique(np.quantile(log_ppl[known], np.linspace(0, 1, quantiles + 1)))
    label = np.clip(np.searchsorted(edges, log_ppl[known], side="left") - 1, 0, max(edges.size - 2, 0))
    counts = np.bincount(label, minlength=max(edges.size - 1, 1))
    values = {name: c[known] for name, c in columns.items()}
    if "delta" in values:
        values["accuracy"] = np.where(np.isfinite(values["delta"]), values["delta"] > 0, np.nan)
    means = {
        name: [
            finite(np.mean(values[name][label == k])) if name in values and counts[k] else None
            for k in range(counts.size)
        ]
        for name in ("dynamic_beta", "loss", "loss_at_beta0", "delta", "accuracy")
    }
    rows: list[dict[str, Any]] = []
    for k in np.flatnonzero(counts):
        inside = values["log_prompt_perplexity"][label == k]
        rows.append(
            {
                "quantile": len(rows) + 1,
                "n": int(counts[k]),
                "log_prompt_perplexity_low": float(inside.min()),
                "log_prompt_perplexity_high": float(inside.max()),
                **{name: of[k] for name, of in means.items()},
            }
        )
    return rows
