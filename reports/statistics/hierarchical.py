"""Hierarchical bootstrap: seeds resampled, then one sample of items shared by all methods."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .resampling import crossed_weights
from .results import Estimate, undefined


def hierarchical_means(values: ArrayLike, replicates: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Bootstrap means, shape (methods, replicates), of values with shape (methods, seeds, items).

    Items are crossed with seeds and methods, so each replicate draws one multiset of seeds and one of items and uses
    them for every method: differences between rows are paired.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 3:
        raise ValueError(f"hierarchical_means: values must have shape (methods, seeds, items), got {x.shape}")
    methods, seeds, items = x.shape
    if min(x.shape) == 0 or not np.isfinite(x).all():
        raise ValueError("hierarchical_means: values must be finite and non-empty; keep shared seeds and items only")
    out = np.empty((methods, replicates))
    flat = x.reshape(methods * seeds, items)
    start = 0
    for seed_weight, item_weight in crossed_weights(seeds, items, replicates, seed):
        size = len(seed_weight)
        per_seed = (flat @ item_weight.T).reshape(methods, seeds, size)
        out[:, start : start + size] = np.einsum("msr,rs->mr", per_seed, seed_weight)
        start += size
    return out


def hierarchical_difference(
    a: ArrayLike, b: ArrayLike, replicates: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Percentile interval for mean(a) - mean(b), both of shape (seeds, items), seeds and items matched.

    Labelled indicative below five seeds: with S=3 there are only 10 distinct seed multisets.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    name = f"hierarchical bootstrap over seeds and items ({replicates} draws)"
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"hierarchical_difference: shapes {x.shape} and {y.shape}; give two (seeds, items) arrays")
    seeds, items = x.shape
    if seeds < 2 or items < 2:
        return undefined(name, items, "fewer than two seeds or items to resample", seeds)
    means = hierarchical_means((x - y)[None], replicates, seed)[0]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    multisets = comb(2 * seeds - 1, seeds)
    note = f"indicative: {seeds} seeds give {multisets} distinct seed multisets" if seeds < 5 else None
    error = float(means.std(ddof=1))
    return Estimate(float((x - y).mean()), float(low), float(high), name, items, seeds, error, confidence, note)
