"""Expected best of n settings drawn from those tried: what a tuning budget of n buys (Dodge et al. 2019, 1909.03004)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln


def expected_best(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the largest of n values drawn without replacement, for n = 1..N, from values of shape (..., N).

    sum_i v_(i) C(i-1, n-1) / C(N, n) over the sorted values: unbiased for n settings drawn at random, where Dodge's own
    plug-in form draws with replacement and is biased downwards. Returns shape (..., N); finite values only (ValueError).
    """
    v = np.sort(np.asarray(values, dtype=float), axis=-1)
    if v.ndim < 1 or v.shape[-1] == 0 or not np.isfinite(v).all():
        raise ValueError(f"expected_best: shape {v.shape}; give at least one finite value")
    total = v.shape[-1]
    place = np.arange(1, total + 1)[:, None]
    drawn = np.arange(1, total + 1)[None, :]
    possible = place >= drawn
    below = np.where(possible, place - drawn, 0)
    log_weight = gammaln(place) - gammaln(drawn) - gammaln(below + 1)
    log_all = gammaln(total + 1) - gammaln(drawn + 1) - gammaln(total - drawn + 1)
    weights = np.where(possible, np.exp(log_weight - log_all), 0.0)
    result: NDArray[np.float64] = v @ weights
    return result
