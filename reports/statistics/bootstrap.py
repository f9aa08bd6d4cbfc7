"""Bootstrap intervals for the mean of paired differences over prompts: percentile and BCa (Efron 1987)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .resampling import bootstrap_weights
from .results import Estimate, undefined


def paired_bootstrap(
    differences: ArrayLike,
    kind: Literal["percentile", "bca"] = "bca",
    replicates: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Interval for the mean of differences, shape (n,), by resampling items.

    BCa falls back to the percentile interval, and says so, where its corrections are undefined (constant data).
    """
    d = np.asarray(differences, dtype=float)
    name = f"paired bootstrap ({'BCa' if kind == 'bca' else 'percentile'}, {replicates} draws)"
    if d.size < 2:
        return undefined(name, d.size, "fewer than two items")
    means = np.concatenate([weights @ d for weights in bootstrap_weights(d.size, replicates, seed)])
    centre, tail, note = float(d.mean()), (1 - confidence) / 2, None
    quantiles = np.array([tail, 1 - tail])
    if kind == "bca":
        # Sums in another order of addition are equal where they differ by rounding only.
        equal = np.abs(means - centre) <= 1e-12 * max(float(np.abs(d).max()), 1e-300)
        below = ((means[~equal] < centre).sum() + 0.5 * equal.sum()) / replicates
        jackknife = (d.sum() - d) / (d.size - 1)
        gaps = jackknife.mean() - jackknife
        spread = float((gaps**2).sum())
        if 0 < below < 1 and spread > 0:
            bias, acceleration = special.ndtri(below), (gaps**3).sum() / (6 * spread**1.5)
            z = bias + special.ndtri(quantiles)
            quantiles = special.ndtr(bias + z / (1 - acceleration * z))
        else:
            note = "the differences do not vary; BCa is undefined and the percentile interval is given"
    low, high = np.quantile(means, quantiles)
    error = float(means.std(ddof=1))
    return Estimate(centre, float(low), float(high), name, d.size, stderr=error, confidence=confidence, note=note)
