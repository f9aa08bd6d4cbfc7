"""Binned beta for the figures: its quantiles over steps, and its mean in bins of another quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reports.beta.cells import Floats, mean_fields
from reports.runs.records import finite
from reports.schema.beta import BetaQuantile, CurvePoint, FanPoint

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
STEP_BINS = 30
BINS = 12


def fan(parts: Sequence[tuple[Floats, Floats]], bins: int = STEP_BINS) -> list[FanPoint]:
    """Quantiles of beta over the rows of all runs in each stretch of steps; parts are (step, beta) of each run, shape (n,)."""
    if not parts:
        return []
    step, beta = np.concatenate(parts, axis=1)
    names = np.unique(step)
    edges = names if names.size <= bins else np.quantile(names, np.linspace(0, 1, bins + 1)[:-1])
    label = np.searchsorted(edges, step, side="right") - 1
    points = []
    for inside in (label == k for k in np.unique(label)):
        values = dict(zip(QUANTILES, np.quantile(beta[inside], list(QUANTILES.values())).tolist(), strict=True))
        points.append(FanPoint(step=float(step[inside].mean()), n=int(inside.sum()), **values))
    return points


def _bins(values: Floats, count: int) -> Floats:
    """Edges of at most so many bins that hold equally many of the values; fewer where values repeat."""
    edges: Floats = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    return edges


def _binned(values: Floats, edges: Floats) -> NDArray[np.int64]:
    """The bin of each value; an edge belongs to the bin below it."""
    return np.clip(np.searchsorted(edges, values, side="left") - 1, 0, max(edges.size - 2, 0))


def binned(parts: Sequence[tuple[Floats, Floats]], bins: int = BINS) -> list[CurvePoint]:
    """Mean of y in bins of x that hold equally many rows; parts are (x, y) of each run, shape (n,).

    `mean` is the mean of the runs' means, with a t interval over runs; `q10` and `q90` are of the rows. Rows that are
    not finite are left out; fewer bins come back when x repeats or rows are few.
    """
    kept = [(x[ok], b[ok]) for x, b in parts if (ok := np.isfinite(x) & np.isfinite(b)).any()]
    if not kept:
        return []
    everything = np.concatenate([x for x, _ in kept])
    edges = _bins(everything, int(np.clip(everything.size // 10, 1, bins)))
    labels = [_binned(x, edges) for x, _ in kept]
    points = []
    for k in np.unique(np.concatenate(labels)):
        inside = [(x[at == k], b[at == k]) for (x, b), at in zip(kept, labels, strict=True) if (at == k).any()]
        x, beta = np.concatenate(inside, axis=1)
        q10, q90 = np.quantile(beta, [0.1, 0.9]).tolist()
        points.append(
            CurvePoint(
                x=float(x.mean()),
                n=int(x.size),
                runs=len(inside),
                **mean_fields([float(b.mean()) for _, b in inside]),
                q10=q10,
                q90=q90,
            )
        )
    return points


def within_steps(columns: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Log beta and the loss of every row, each less its mean over the rows of its step, shape (n,) each."""
    finite_rows = np.isfinite(columns["loss"]) & (columns["dynamic_beta"] > 0)
    step, loss, beta = (columns[name][finite_rows] for name in ("step", "loss", "dynamic_beta"))
    _, at, count = np.unique(step, return_inverse=True, return_counts=True)
    x, y = (v - (np.bincount(at, v) / count)[at] for v in (np.log(beta), loss))
    return x, y


# What beta, loss and margin are in each fifth of the prompt perplexities.


def perplexity_quantiles(columns: Mapping[str, Floats], quantiles: int = 5) -> list[BetaQuantile]:
    """Per quantile of log prompt perplexity: rows, mean beta, losses, delta, and the share of pairs with delta > 0.

    `columns` maps names to arrays of shape (n,); a column that is absent gives nulls. Rows without a perplexity (one-token
    prompts) are left out. Fewer bins come back when values repeat, none without perplexities.
    """
    log_ppl = columns.get("log_prompt_perplexity")
    if log_ppl is None or not np.isfinite(log_ppl).any():
        return []
    known = np.isfinite(log_ppl)
    values = {name: column[known] for name, column in columns.items()}
    if "delta" in values:
        values["accuracy"] = np.where(np.isfinite(values["delta"]), values["delta"] > 0, np.nan)
    label = _binned(log_ppl[known], _bins(log_ppl[known], quantiles))
    rows: list[BetaQuantile] = []
    for inside in (label == k for k in np.unique(label)):
        names = ("dynamic_beta", "loss", "loss_at_beta0", "delta", "accuracy")
        means = {name: finite(np.mean(values[name][inside])) if name in values else None for name in names}
        perplexity = values["log_prompt_perplexity"][inside]
        rows.append(
            BetaQuantile(
                quantile=len(rows) + 1,
                n=int(inside.sum()),
                log_prompt_perplexity_low=float(perplexity.min()),
                log_prompt_perplexity_high=float(perplexity.max()),
                **means,
            )
        )
    return rows
