"""What beta, loss and margin are in each fifth of the prompt perplexities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..records import finite
from .cells import Floats


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
